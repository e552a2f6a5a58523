// Gather rows by id, inner product with the query, top-k: one pass.
// Legend: N rows, D dimensions, Q queries, K candidates a query, k results a query.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bowerbird {

enum class RowType { float32, float16 };

struct RerankRequest {
    const void* rows;  // (N, D) of row_type
    RowType row_type;
    std::size_t num_rows;
    std::size_t dimension;
    const float* queries;  // (Q, D), finite
    std::size_t num_queries;
    const std::int64_t* candidates;  // (Q, K), row ids; -1 is skipped
    std::size_t num_candidates;
    std::size_t k;            // >= 1
    std::size_t num_threads;  // >= 1
};

// Fill scores (Q, k) and indices (Q, k): best first, ties keep the lower id, -infinity / -1 where there are fewer.
// A row listed twice is returned twice.
// Throws std::invalid_argument when a candidate is no row, or a row yields a score that is not a number.
void rerank(const RerankRequest& request, float* scores, std::int64_t* indices);

}  // namespace bowerbird
