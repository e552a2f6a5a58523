#include "bowerbird/rerank.hpp"

#include <optional>
#include <string>

#include "arguments.hpp"

namespace bowerbird::bindings {
namespace {

constexpr std::int64_t max_rows = std::int64_t{1} << 32;  // an id and a score order as one number of 64 bits

RowType row_type(const Tensor& rows) {
    if (rows.element == Element::float32) return RowType::float32;
    if (rows.element == Element::float16) return RowType::float16;
    if (rows.element == Element::bfloat16) return RowType::bfloat16;
    if (rows.element == Element::int8) return RowType::int8;
    throw py::type_error("rows: expected dtype float32, float16, bfloat16 or int8, got " + describe(rows));
}

Metric metric_named(const std::string& name) {
    if (name == "inner_product") return Metric::inner_product;
    if (name == "l2") return Metric::l2;
    if (name == "cosine") return Metric::cosine;
    throw py::value_error("metric: expected 'inner_product', 'l2' or 'cosine', got '" + name + "'");
}

void set_rows(RerankRequest& request, const Tensor& rows) {
    request.row_type = row_type(rows);
    require_rank(rows, 2, "rows");
    require_contiguous(rows, "rows");
    request.rows = rows.data;
    request.num_rows = require_between(rows.shape[0], 0, max_rows, "rows: number");
    request.dimension = require_between(rows.shape[1], 1, max_k, "rows: dimension");
}

// Values are not looked at: reading all scales could cost more than the call, which reads those of its candidates.
void set_scales(RerankRequest& request, const std::optional<Tensor>& scales) {
    if (scales.has_value() != (request.row_type == RowType::int8)) {
        throw py::value_error(scales ? "scales: expected None, since rows are not int8"
                                     : "scales: expected one a row, since rows are int8, got None");
    }
    if (!scales) return;
    request.scales = elements<float>(*scales, 1, "scales");
    require_length(*scales, 0, request.num_rows, "scales");
}

void set_queries(RerankRequest& request, const Tensor& queries) {
    request.queries = elements<float>(queries, 2, "queries");
    require_length(queries, 1, request.dimension, "queries");
    request.num_queries = queries.length(0);
    require_finite(queries, "queries");
}

void require_ascending(const RerankRequest& request) {
    const std::int64_t* offsets = request.offsets;
    const auto total = static_cast<std::int64_t>(request.num_candidates);
    if (offsets[0] != 0 || offsets[request.num_queries] != total) {
        throw py::value_error("offsets: expected to go from 0 to the " + std::to_string(total) +
                              " candidates, got " + std::to_string(offsets[0]) + " to " +
                              std::to_string(offsets[request.num_queries]));
    }
    for (std::size_t q = 0; q < request.num_queries; ++q) {
        if (offsets[q] <= offsets[q + 1]) continue;
        throw py::value_error("offsets: expected to ascend, got " + std::to_string(offsets[q]) + " before " +
                              std::to_string(offsets[q + 1]));
    }
}

void set_lists(RerankRequest& request, const Tensor& candidates, const std::optional<Tensor>& offsets) {
    request.candidates = elements<std::int64_t>(candidates, offsets ? 1 : 2, "candidates");
    if (!offsets) {
        require_length(candidates, 0, request.num_queries, "candidates");
        request.num_candidates = candidates.length(1);
        return;
    }
    request.num_candidates = candidates.length(0);
    request.offsets = elements<std::int64_t>(*offsets, 1, "offsets");
    require_length(*offsets, 0, request.num_queries + 1, "offsets");
    if (offsets->on_host()) require_ascending(request);
}

std::optional<Tensor> optional_tensor(const Place& place, const py::object& value, const char* name) {
    if (value.is_none()) return std::nullopt;
    return place.tensor(value, name);
}

void compute(const Place& place, const RerankRequest& request, const Tensor& scores, const Tensor& indices) {
    auto* scores_out = static_cast<float*>(scores.data);
    auto* indices_out = static_cast<std::int64_t*>(indices.data);
    if (place.on_host()) {
        const py::gil_scoped_release released;
        return rerank(request, scores_out, indices_out);
    }
    const DeviceWork work = place.work(cuda::rerank_scratch_bytes(request));
    const py::gil_scoped_release released;
    cuda::rerank(request, work.context, scores_out, indices_out);
}

py::tuple run(const py::object& where, const py::object& rows_, const py::object& queries_,
              const py::object& candidates_, std::int64_t k, const std::string& metric, const py::object& scales_,
              const py::object& offsets_, std::int64_t num_threads) {
    const Place place(where);
    const Tensor rows = place.tensor(rows_, "rows"), queries = place.tensor(queries_, "queries");
    const Tensor candidates = place.tensor(candidates_, "candidates");
    const std::optional<Tensor> scales = optional_tensor(place, scales_, "scales");
    const std::optional<Tensor> offsets = optional_tensor(place, offsets_, "offsets");
    RerankRequest request{};
    set_rows(request, rows);
    set_scales(request, scales);
    set_queries(request, queries);
    set_lists(request, candidates, offsets);
    request.metric = metric_named(metric);
    request.k = require_between(k, 1, max_k, "k");
    request.num_threads = require_between(num_threads, 1, max_threads, "num_threads");

    const Tensor scores = place.empty({queries.shape[0], k}, Element::float32);
    const Tensor indices = place.empty({queries.shape[0], k}, Element::int64);
    compute(place, request, scores, indices);
    return py::make_tuple(scores.owner, indices.owner);
}

}  // namespace

void bind_rerank(py::module_& module) { module.def("rerank", &run); }

}  // namespace bowerbird::bindings
