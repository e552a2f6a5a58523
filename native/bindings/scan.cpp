#include "bowerbird/scan.hpp"

#include "arguments.hpp"

namespace bowerbird::bindings {
namespace {

std::size_t code_bytes(const Tensor& codes) {
    const std::size_t bytes = codes.length(1);
    if (bytes % 8 == 0 && min_code_bytes <= bytes && bytes <= max_code_bytes) return bytes;
    throw py::value_error("codes: expected 64 to 4096 bits a code in multiples of 64 (8 to 512 bytes), got " +
                          std::to_string(bytes) + " bytes");
}

const std::uint8_t* mask_bytes(const Tensor& mask, std::size_t num_codes) {
    const std::uint8_t* bytes = elements<std::uint8_t>(mask, 1, "mask");
    require_length(mask, 0, (num_codes + 7) / 8, "mask");
    return bytes;
}

py::tuple run(const py::object& where, const py::object& codes_, const py::object& queries_, std::int64_t k,
              const py::object& mask_, std::int64_t num_threads) {
    const Place place(where);
    const Tensor codes = place.tensor(codes_, "codes"), queries = place.tensor(queries_, "queries");
    Tensor mask;
    ScanRequest request{};
    request.codes = elements<std::uint8_t>(codes, 2, "codes");
    request.queries = elements<std::uint8_t>(queries, 2, "queries");
    request.num_codes = codes.length(0);
    request.code_bytes = code_bytes(codes);
    require_length(queries, 1, request.code_bytes, "queries");
    request.num_queries = queries.length(0);
    if (!mask_.is_none()) {
        mask = place.tensor(mask_, "mask");
        request.mask = mask_bytes(mask, request.num_codes);
    }
    request.k = require_between(k, 1, max_k, "k");
    request.num_threads = require_between(num_threads, 1, max_threads, "num_threads");

    const Tensor distances = place.empty({queries.shape[0], k}, Element::int32);
    const Tensor indices = place.empty({queries.shape[0], k}, Element::int64);
    auto* distances_out = static_cast<std::int32_t*>(distances.data);
    auto* indices_out = static_cast<std::int64_t*>(indices.data);
    {
        const py::gil_scoped_release released;
        scan(request, distances_out, indices_out);
    }
    return py::make_tuple(distances.owner, indices.owner);
}

}  // namespace

void bind_scan(py::module_& module) { module.def("scan", &run); }

}  // namespace bowerbird::bindings
