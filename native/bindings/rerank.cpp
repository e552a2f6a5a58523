#include "bowerbird/rerank.hpp"

#include "arguments.hpp"

namespace bowerbird::bindings {
namespace {

RowType row_type(const py::array& rows) {
    if (py::dtype("float16").equal(rows.dtype())) return RowType::float16;
    if (py::dtype("float32").equal(rows.dtype())) return RowType::float32;
    throw py::type_error("rows: expected dtype float32 or float16, got " + describe(rows));
}

py::tuple run(const py::array& rows, const py::array& queries, const py::array& candidates, std::int64_t k,
              std::int64_t num_threads) {
    RerankRequest request{};
    request.row_type = row_type(rows);
    require_rank(rows, 2, "rows");
    require_contiguous(rows, "rows");
    request.rows = rows.data();
    request.num_rows = length(rows, 0);
    request.dimension = require_between(rows.shape(1), 1, max_k, "rows: dimension");
    request.queries = elements<float>(queries, 2, "queries");
    require_length(queries, 1, rows.shape(1), "queries");
    request.num_queries = length(queries, 0);
    require_finite(request.queries, static_cast<std::size_t>(queries.size()), "queries");
    request.candidates = elements<std::int64_t>(candidates, 2, "candidates");
    require_length(candidates, 0, queries.shape(0), "candidates");
    request.num_candidates = length(candidates, 1);
    request.k = require_between(k, 1, max_k, "k");
    request.num_threads = require_between(num_threads, 1, max_threads, "num_threads");

    py::array_t<float> scores({queries.shape(0), static_cast<py::ssize_t>(k)});
    py::array_t<std::int64_t> indices({queries.shape(0), static_cast<py::ssize_t>(k)});
    float* scores_out = scores.mutable_data();
    std::int64_t* indices_out = indices.mutable_data();
    {
        const py::gil_scoped_release released;
        rerank(request, scores_out, indices_out);
    }
    return py::make_tuple(scores, indices);
}

}  // namespace

void bind_rerank(py::module_& module) { module.def("rerank", &run); }

}  // namespace bowerbird::bindings
