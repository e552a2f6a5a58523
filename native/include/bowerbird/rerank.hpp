// Gather rows by id, score them against the query, top-k: one pass.
// Legend: N rows, D dimensions, Q queries, K candidates a query, T candidates in all, k results a query.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bowerbird/device.hpp"

namespace bowerbird {

enum class RowType { float32, float16, bfloat16, int8 };

// l2 is the squared distance, best is least; of the others best is greatest. Both norms divide the cosine, and a vector
// of zeros has cosine 0 with every other.
enum class Metric { inner_product, l2, cosine };

struct RerankRequest {
    const void* rows;  // (N, D) of row_type
    RowType row_type;
    const float* scales;  // (N,): a row of int8 stands for scale * row; null for the other types
    std::size_t num_rows;  // <= 2^32
    std::size_t dimension;
    const float* queries;  // (Q, D), finite
    std::size_t num_queries;
    const std::int64_t* candidates;  // row ids, -1 is skipped: (Q, K), or (T,) where offsets are given
    const std::int64_t* offsets;     // null, or (Q + 1,) from 0 ascending to T: where each query's candidates begin
    std::size_t num_candidates;      // K; with offsets, T
    Metric metric;
    std::size_t k;            // >= 1
    std::size_t num_threads;  // >= 1
};

// Fill scores (Q, k) and indices (Q, k): best first, ties keep the lower id; where there are fewer, the index is -1 and
// the score the worst there is (-infinity, for l2 +infinity). A row listed twice is returned twice.
// Throws std::invalid_argument when a candidate is no row, or a row yields a score that is not a number. The cosine of
// a row whose squared length is beyond float32 is not a number.
void rerank(const RerankRequest& request, float* scores, std::int64_t* indices);

namespace cuda {

// Bytes of scratch memory, from the lengths in the request alone.
std::size_t rerank_scratch_bytes(const RerankRequest& request);

// As above, of memory on the device and for any values: a candidate that is no row, and one whose score is not a
// number, is left out like -1; offsets are cut to 0 ... T, and where they descend the lists around come out wrong, of
// row ids all the same.
void rerank(const RerankRequest& request, const DeviceContext& context, float* scores, std::int64_t* indices);

}  // namespace cuda

}  // namespace bowerbird
