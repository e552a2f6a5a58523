// Random rows are bound by memory latency: while rows are multiplied, those a few ahead are prefetched line by line.
#include <immintrin.h>

#include "rerank_loops.hpp"

namespace bowerbird::avx2 {
namespace {

constexpr std::size_t lanes = 8;
constexpr std::size_t block = 8 * lanes;  // values taken in one turn: a whole number of cache lines of every row type
constexpr std::size_t line_bytes = 64;
constexpr std::size_t group = 4;  // rows scored together: a vector of the query is loaded once for all, and their sums
                                  // are chains of additions that do not wait for one another

struct Float32 {
    static constexpr std::size_t bytes = 4;
    static __m256 load(const char* at) { return _mm256_loadu_ps(reinterpret_cast<const float*>(at)); }
};

struct Float16 {
    static constexpr std::size_t bytes = 2;
    static __m256 load(const char* at) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
    }
};

struct Bfloat16 {
    static constexpr std::size_t bytes = 2;
    static __m256 load(const char* at) {
        const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(values), 16));
    }
};

// Exact: 8 bits fit a float, and one more instruction a vector hides behind the memory.
struct Int8 {
    static constexpr std::size_t bytes = 1;
    static __m256 load(const char* at) {
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at))));
    }
};

template <class Row, Metric metric>
struct RowSums {
    __m256 sum = _mm256_setzero_ps();
    __m256 square = _mm256_setzero_ps();  // of the cosine alone
    __m256 scale = _mm256_setzero_ps();   // of the distance of int8 alone

    void add(__m256 row, __m256 query) {
        if constexpr (metric == Metric::l2) {
            const __m256 difference =
                Row::bytes == 1 ? _mm256_fnmadd_ps(row, scale, query) : _mm256_sub_ps(query, row);
            sum = _mm256_fmadd_ps(difference, difference, sum);
        } else {
            sum = _mm256_fmadd_ps(row, query, sum);
            if constexpr (metric == Metric::cosine) square = _mm256_fmadd_ps(row, row, square);
        }
    }
};

float sum_lanes(__m256 values) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// The rows of ids[0 .. group); `next` are those whose rows come later.
template <class Row, Metric metric>
void score_group(const ScoreTask& task, const std::int64_t* ids, const std::int64_t* next_ids, float* sums,
                 float* squares) {
    const char* rows = static_cast<const char*>(task.rows);
    const std::size_t row_bytes = task.dimension * Row::bytes;
    const char* at[group];
    const char* next[group];
    RowSums<Row, metric> state[group];
    for (std::size_t r = 0; r < group; ++r) {
        at[r] = rows + static_cast<std::size_t>(ids[r]) * row_bytes;
        next[r] = rows + static_cast<std::size_t>(next_ids[r]) * row_bytes;
        _mm_prefetch(next[r] + row_bytes - 1, _MM_HINT_T0);  // rows need not begin with a line
        if constexpr (Row::bytes == 1) {
            _mm_prefetch(reinterpret_cast<const char*>(task.scales + next_ids[r]), _MM_HINT_T0);
            state[r].scale = _mm256_set1_ps(task.scales[ids[r]]);
        }
    }
    std::size_t i = 0;
    for (; i + block <= task.dimension; i += block) {
        for (std::size_t r = 0; r < group; ++r) {
            for (std::size_t line = 0; line < block * Row::bytes; line += line_bytes) {
                _mm_prefetch(next[r] + i * Row::bytes + line, _MM_HINT_T0);
            }
        }
        for (std::size_t v = i; v < i + block; v += lanes) {
            const __m256 query = _mm256_loadu_ps(task.query + v);
            for (std::size_t r = 0; r < group; ++r) state[r].add(Row::load(at[r] + v * Row::bytes), query);
        }
    }
    for (; i < task.dimension; i += lanes) {
        const std::size_t left = task.dimension - i < lanes ? task.dimension - i : lanes;
        const __m256 query = _mm256_loadu_ps(task.query + i);
        for (std::size_t r = 0; r < group; ++r) {
            _mm_prefetch(next[r] + i * Row::bytes, _MM_HINT_T0);
            char tail[lanes * Row::bytes] = {};  // the rest of the row, then zeros
            __builtin_memcpy(tail, at[r] + i * Row::bytes, left * Row::bytes);
            state[r].add(Row::load(tail), query);
        }
    }
    for (std::size_t r = 0; r < group; ++r) {
        sums[r] = sum_lanes(state[r].sum);
        if constexpr (Row::bytes == 1 && metric == Metric::inner_product) sums[r] *= task.scales[ids[r]];
        if constexpr (metric == Metric::cosine) squares[r] = sum_lanes(state[r].square);
    }
}

// The last group is filled up with the last row.
template <class Row, Metric metric>
void score(const ScoreTask& task, float* sums, float* squares) {
    std::size_t i = 0;
    for (; i + group <= task.count; i += group) {
        score_group<Row, metric>(task, task.ids + i, task.ids + i + task.ahead, sums + i, squares + i);
    }
    if (i == task.count) return;
    std::int64_t ids[group];
    float last_sums[group], last_squares[group];
    for (std::size_t r = 0; r < group; ++r) ids[r] = task.ids[i + r < task.count ? i + r : task.count - 1];
    score_group<Row, metric>(task, ids, ids, last_sums, last_squares);
    for (std::size_t r = 0; i < task.count; ++i, ++r) {
        sums[i] = last_sums[r];
        if constexpr (metric == Metric::cosine) squares[i] = last_squares[r];
    }
}

}  // namespace

const RerankLoops rerank_loops{{
    {&score<Float32, Metric::inner_product>, &score<Float32, Metric::l2>, &score<Float32, Metric::cosine>},
    {&score<Float16, Metric::inner_product>, &score<Float16, Metric::l2>, &score<Float16, Metric::cosine>},
    {&score<Bfloat16, Metric::inner_product>, &score<Bfloat16, Metric::l2>, &score<Bfloat16, Metric::cosine>},
    {&score<Int8, Metric::inner_product>, &score<Int8, Metric::l2>, &score<Int8, Metric::cosine>},
}};

}  // namespace bowerbird::avx2
