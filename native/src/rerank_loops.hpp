// The inner loops of rerank, once a SIMD level.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bowerbird/rerank.hpp"
#include "dispatch.hpp"

namespace bowerbird {

// A query in multiples of a power of two, `step`, each written as signed digits of base 256: a level whose processor
// multiplies bytes computes inner products of int8 rows with these, in integers.
struct Digits {
    static constexpr std::size_t count = 3;
    static constexpr std::size_t block = 64;
    static constexpr std::size_t max_dimension = 4096;

    alignas(64) std::int8_t values[max_dimension / block][count][block];  // the lowest digits first
    alignas(64) std::int32_t start[count][16];  // where the sums of the lanes begin; see the loop
    float step;
};

// Rows of one candidate list, scored against one query.
struct ScoreTask {
    const void* rows;         // (N, dimension), of the loop's row type
    const float* scales;      // (N,) for int8
    std::size_t dimension;    // D
    const float* query;       // D values, then zeros up to a multiple of query_padding
    const Digits* digits;     // of the query, or null
    const std::int64_t* ids;  // `count` row ids, then `ahead` more whose rows come next: prefetched, never read
    std::size_t count;
    std::size_t ahead;  // how many rows before its turn a row is prefetched, at least min_ahead
};

constexpr std::size_t min_ahead = 4;
constexpr std::size_t query_padding = 64;  // values: a whole number of vectors at every level

// What a loop gives for row i:
//   inner_product  sums[i] = row . query
//   l2             sums[i] = |row - query|^2
//   cosine         sums[i] = row . query and squares[i] = |row|^2, of int8 without the scale, which cancels but for
//                  its sign
// in float32; equal rows get equal values, wherever they lie.
using ScoreLoop = void (*)(const ScoreTask& task, float* sums, float* squares);

// The candidates of a list are packed: without the -1. Gives their number, or `refused` if an id is neither -1 nor
// below num_rows. There is room for `count` ids.
using PackLoop = std::size_t (*)(const std::int64_t* ids, std::size_t count, std::size_t num_rows,
                                 std::int64_t* packed);

// Key of a candidate: the place of its rank (greater is better) among the floats in descending order, in the high half,
// and the id in the low one. The less, the better. The two zeros are one.
using Key = std::uint64_t;
constexpr int id_bits = 32;

// Keys of the candidates whose rank is not below the bar, in their order. Gives their number, or `refused` if a rank is
// not a number. There is room for `count` keys.
using KeyLoop = std::size_t (*)(const float* ranks, const std::int64_t* ids, std::size_t count, float bar, Key* keys);

constexpr std::size_t refused = ~std::size_t{0};

struct RerankLoops {
    ScoreLoop score[4][3];  // by RowType and Metric
    PackLoop pack;
    KeyLoop keys;

    // Digits of a query (padded as in ScoreTask) of at most Digits::max_dimension values; false if it has none. Null
    // where the loop for int8 takes no digits.
    bool (*split)(const float* query, std::size_t dimension, Digits& digits);
};

BOWERBIRD_LOOPS(RerankLoops, rerank_loops)

namespace portable {

std::size_t pack(const std::int64_t* ids, std::size_t count, std::size_t num_rows, std::int64_t* packed);
std::size_t keys(const float* ranks, const std::int64_t* ids, std::size_t count, float bar, Key* keys);

}  // namespace portable

}  // namespace bowerbird
