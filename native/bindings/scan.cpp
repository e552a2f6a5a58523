#include "bowerbird/scan.hpp"

#include "arguments.hpp"

namespace bowerbird::bindings {
namespace {

std::size_t code_bytes(const py::array& codes) {
    const std::size_t bytes = length(codes, 1);
    if (bytes % 8 == 0 && min_code_bytes <= bytes && bytes <= max_code_bytes) return bytes;
    throw py::value_error("codes: expected 64 to 4096 bits a code in multiples of 64 (8 to 512 bytes), got " +
                          std::to_string(bytes) + " bytes");
}

const std::uint8_t* mask_bytes(const py::object& mask, std::size_t num_codes) {
    if (mask.is_none()) return nullptr;
    const auto array = py::reinterpret_borrow<py::array>(mask);
    const std::uint8_t* bytes = elements<std::uint8_t>(array, 1, "mask");
    require_length(array, 0, static_cast<py::ssize_t>((num_codes + 7) / 8), "mask");
    return bytes;
}

py::tuple run(const py::array& codes, const py::array& queries, std::int64_t k, const py::object& mask,
              std::int64_t num_threads) {
    ScanRequest request{};
    request.codes = elements<std::uint8_t>(codes, 2, "codes");
    request.queries = elements<std::uint8_t>(queries, 2, "queries");
    request.num_codes = length(codes, 0);
    request.code_bytes = code_bytes(codes);
    require_length(queries, 1, codes.shape(1), "queries");
    request.num_queries = length(queries, 0);
    request.mask = mask_bytes(mask, request.num_codes);
    request.k = require_between(k, 1, max_k, "k");
    request.num_threads = require_between(num_threads, 1, max_threads, "num_threads");

    py::array_t<std::int32_t> distances({queries.shape(0), static_cast<py::ssize_t>(k)});
    py::array_t<std::int64_t> indices({queries.shape(0), static_cast<py::ssize_t>(k)});
    std::int32_t* distances_out = distances.mutable_data();
    std::int64_t* indices_out = indices.mutable_data();
    {
        const py::gil_scoped_release released;
        scan(request, distances_out, indices_out);
    }
    return py::make_tuple(distances, indices);
}

}  // namespace

void bind_scan(py::module_& module) { module.def("scan", &run); }

}  // namespace bowerbird::bindings
