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

// The tensors that a request points into.
struct ScanArrays {
    Tensor codes, queries, mask, ids, list_offsets, probes;
};

void take_codes(ScanRequest& request, const ScanArrays& arrays) {
    request.codes = elements<std::uint8_t>(arrays.codes, 2, "codes");
    request.queries = elements<std::uint8_t>(arrays.queries, 2, "queries");
    request.num_codes = arrays.codes.length(0);
    request.code_bytes = code_bytes(arrays.codes);
    require_length(arrays.queries, 1, request.code_bytes, "queries");
    request.num_queries = arrays.queries.length(0);
}

void take_mask(ScanRequest& request, const Tensor& mask) {
    request.mask = elements<std::uint8_t>(mask, 1, "mask");
    require_length(mask, 0, (request.num_codes + 7) / 8, "mask");
}

void take_ids(ScanRequest& request, const Tensor& ids) {
    request.ids = elements<std::int64_t>(ids, 1, "ids");
    require_length(ids, 0, request.num_codes, "ids");
}

void take_lists(ScanRequest& request, const Tensor& list_offsets, const Tensor& probes) {
    request.list_offsets = elements<std::int64_t>(list_offsets, 1, "list_offsets");
    if (list_offsets.length(0) == 0) throw py::value_error("list_offsets: expected at least one offset, got none");
    request.num_lists = list_offsets.length(0) - 1;
    request.probes = elements<std::int64_t>(probes, 2, "probes");
    require_length(probes, 0, request.num_queries, "probes");
    request.num_probes = probes.length(1);
}

ScanRequest request_of(const Place& place, ScanArrays& arrays, const py::object& mask, const py::object& ids,
                       const py::object& list_offsets, const py::object& probes) {
    ScanRequest request{};
    take_codes(request, arrays);
    if (!mask.is_none()) take_mask(request, arrays.mask = place.tensor(mask, "mask"));
    if (!ids.is_none()) take_ids(request, arrays.ids = place.tensor(ids, "ids"));
    if (list_offsets.is_none() != probes.is_none()) {
        throw py::value_error(std::string(probes.is_none() ? "probes" : "list_offsets") +
                              ": expected an array, since list_offsets and probes come together, got None");
    }
    if (!list_offsets.is_none()) {
        arrays.list_offsets = place.tensor(list_offsets, "list_offsets");
        take_lists(request, arrays.list_offsets, arrays.probes = place.tensor(probes, "probes"));
    }
    return request;
}

py::tuple run(const py::object& where, const py::object& codes, const py::object& queries, std::int64_t k,
              const py::object& mask, const py::object& ids, const py::object& list_offsets, const py::object& probes,
              std::int64_t num_threads) {
    const Place place(where);
    ScanArrays arrays;
    arrays.codes = place.tensor(codes, "codes");
    arrays.queries = place.tensor(queries, "queries");
    ScanRequest request = request_of(place, arrays, mask, ids, list_offsets, probes);
    request.k = require_between(k, 1, max_k, "k");
    request.num_threads = require_between(num_threads, 1, max_threads, "num_threads");

    const Tensor distances = place.empty({arrays.queries.shape[0], k}, Element::int32);
    const Tensor indices = place.empty({arrays.queries.shape[0], k}, Element::int64);
    auto* distances_out = static_cast<std::int32_t*>(distances.data);
    auto* indices_out = static_cast<std::int64_t*>(indices.data);
    if (place.on_host()) {
        const py::gil_scoped_release released;
        scan(request, distances_out, indices_out);
    } else {
        const DeviceWork work = place.work(cuda::scan_scratch_bytes(request));
        const py::gil_scoped_release released;
        cuda::scan(request, work.context, distances_out, indices_out);
    }
    return py::make_tuple(distances.owner, indices.owner);
}

}  // namespace

void bind_scan(py::module_& module) { module.def("scan", &run); }

}  // namespace bowerbird::bindings
