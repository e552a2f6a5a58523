// The inner loops of rerank, once a SIMD level.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch.hpp"

namespace bowerbird {

// Rows of one candidate list, scored against one query.
struct DotTask {
    const void* rows;         // (N, dimension), element type fixed by the loop
    std::size_t dimension;    // D
    const float* query;       // D values, then zeros up to a multiple of 64 values
    const std::int64_t* ids;  // valid row ids
    std::size_t count;
};

struct RerankLoops {
    // scores[i] = inner product of row ids[i] and the query; equal rows get equal scores.
    void (*dot_float32)(const DotTask& task, float* scores);
    void (*dot_float16)(const DotTask& task, float* scores);
};

BOWERBIRD_LOOPS(RerankLoops, rerank_loops)

}  // namespace bowerbird
