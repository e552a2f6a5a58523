#include "bowerbird/rerank.hpp"

#include "arguments.hpp"

namespace bowerbird::bindings {
namespace {

RowType row_type(const Tensor& rows) {
    if (rows.element == Element::float16) return RowType::float16;
    if (rows.element == Element::float32) return RowType::float32;
    throw py::type_error("rows: expected dtype float32 or float16, got " + describe(rows));
}

py::tuple run(const py::object& where, const py::object& rows_, const py::object& queries_,
              const py::object& candidates_, std::int64_t k, std::int64_t num_threads) {
    const Place place(where);
    const Tensor rows = place.tensor(rows_, "rows"), queries = place.tensor(queries_, "queries");
    const Tensor candidates = place.tensor(candidates_, "candidates");
    RerankRequest request{};
    request.row_type = row_type(rows);
    require_rank(rows, 2, "rows");
    require_contiguous(rows, "rows");
    request.rows = rows.data;
    request.num_rows = rows.length(0);
    request.dimension = require_between(rows.shape[1], 1, max_k, "rows: dimension");
    request.queries = elements<float>(queries, 2, "queries");
    require_length(queries, 1, request.dimension, "queries");
    request.num_queries = queries.length(0);
    require_finite(queries, "queries");
    request.candidates = elements<std::int64_t>(candidates, 2, "candidates");
    require_length(candidates, 0, request.num_queries, "candidates");
    request.num_candidates = candidates.length(1);
    request.k = require_between(k, 1, max_k, "k");
    request.num_threads = require_between(num_threads, 1, max_threads, "num_threads");

    const Tensor scores = place.empty({queries.shape[0], k}, Element::float32);
    const Tensor indices = place.empty({queries.shape[0], k}, Element::int64);
    auto* scores_out = static_cast<float*>(scores.data);
    auto* indices_out = static_cast<std::int64_t*>(indices.data);
    {
        const py::gil_scoped_release released;
        rerank(request, scores_out, indices_out);
    }
    return py::make_tuple(scores.owner, indices.owner);
}

}  // namespace

void bind_rerank(py::module_& module) { module.def("rerank", &run); }

}  // namespace bowerbird::bindings
