// Random rows are bound by the memory: while rows are multiplied, those some KiB ahead are prefetched line by line,
// into the second-level cache, which can wait for 48 lines at once where the first can for 16 (Golden Cove).
#include <immintrin.h>

#include "rerank_loops.hpp"

namespace bowerbird::avx2 {
namespace {

constexpr std::size_t lanes = 8;
constexpr std::size_t block = 8 * lanes;  // values taken in one turn: a whole number of cache lines of every row type
constexpr std::size_t line_bytes = 64;
constexpr std::size_t group = 4;  // rows scored together: a vector of the query is loaded once for all, and their sums
                                  // are chains of additions that do not wait for one another

void prefetch(const void* at) { _mm_prefetch(static_cast<const char*>(at), _MM_HINT_T1); }

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

struct Int8 {
    static constexpr std::size_t bytes = 1;
    static __m256 load(const char* at) {
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at))));
    }
};

// The first `count` values at this place, then zeros.
template <class Row>
__m256 load_first(const char* at, std::size_t count) {
    char values[lanes * Row::bytes] = {};
    __builtin_memcpy(values, at, (count < lanes ? count : lanes) * Row::bytes);
    return Row::load(values);
}

// Where the rows of a group begin, and those that are prefetched meanwhile.
struct Group {
    const char* at[group];
    const char* next[group];

    Group(const ScoreTask& task, const std::int64_t* ids, const std::int64_t* next_ids, std::size_t row_bytes) {
        const char* rows = static_cast<const char*>(task.rows);
        const bool whole_lines = ((reinterpret_cast<std::uintptr_t>(rows) | row_bytes) & (line_bytes - 1)) == 0;
#pragma GCC unroll 4
        for (std::size_t r = 0; r < group; ++r) {
            at[r] = rows + static_cast<std::size_t>(ids[r]) * row_bytes;
            next[r] = rows + static_cast<std::size_t>(next_ids[r]) * row_bytes;
            if (!whole_lines) prefetch(next[r] + row_bytes - 1);  // in a line of its own
            if (task.scales != nullptr) prefetch(task.scales + next_ids[r]);
        }
    }

    // The lines at [offset, offset + bytes) of the rows that come next.
    template <std::size_t bytes>
    void prefetch_lines(std::size_t offset) const {
#pragma GCC unroll 4
        for (std::size_t r = 0; r < group; ++r) {
#pragma GCC unroll 4
            for (std::size_t line = 0; line < bytes; line += line_bytes) prefetch(next[r] + offset + line);
        }
    }
};

// Sums of the lanes of a, b, c and d; all four are added up in one order.
__m128 sum_lanes(__m256 a, __m256 b, __m256 c, __m256 d) {
    const __m256 sums = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    return _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
}

__m128 scales_of(const ScoreTask& task, const std::int64_t* ids) {
    return _mm_setr_ps(task.scales[ids[0]], task.scales[ids[1]], task.scales[ids[2]], task.scales[ids[3]]);
}

template <class Row, Metric metric>
struct FloatLoop {
    const ScoreTask& task;

    static void add(__m256 row, __m256 query, __m256 scale, __m256& sum, __m256& square) {
        if constexpr (metric == Metric::l2) {
            const __m256 difference =
                Row::bytes == 1 ? _mm256_fnmadd_ps(row, scale, query) : _mm256_sub_ps(query, row);
            sum = _mm256_fmadd_ps(difference, difference, sum);
        } else {
            sum = _mm256_fmadd_ps(row, query, sum);
            if constexpr (metric == Metric::cosine) square = _mm256_fmadd_ps(row, row, square);
        }
    }

    [[gnu::always_inline]] void score(const std::int64_t* ids, const std::int64_t* next_ids, float* sums,
                                      float* squares) const {
        const Group rows(task, ids, next_ids, task.dimension * Row::bytes);
        __m256 sum[group], square[group], scale[group];
#pragma GCC unroll 4
        for (std::size_t r = 0; r < group; ++r) {
            sum[r] = square[r] = scale[r] = _mm256_setzero_ps();
            if constexpr (Row::bytes == 1 && metric == Metric::l2) scale[r] = _mm256_set1_ps(task.scales[ids[r]]);
        }
        std::size_t i = 0;
        for (; i + block <= task.dimension; i += block) {
            rows.template prefetch_lines<block * Row::bytes>(i * Row::bytes);
#pragma GCC unroll 8
            for (std::size_t v = 0; v < block; v += lanes) {
                const __m256 query = _mm256_loadu_ps(task.query + i + v);
#pragma GCC unroll 4
                for (std::size_t r = 0; r < group; ++r) {
                    add(Row::load(rows.at[r] + (i + v) * Row::bytes), query, scale[r], sum[r], square[r]);
                }
            }
        }
        for (; i < task.dimension; i += lanes) {
            rows.template prefetch_lines<1>(i * Row::bytes);
            const __m256 query = _mm256_loadu_ps(task.query + i);
#pragma GCC unroll 4
            for (std::size_t r = 0; r < group; ++r) {
                const __m256 row = load_first<Row>(rows.at[r] + i * Row::bytes, task.dimension - i);
                add(row, query, scale[r], sum[r], square[r]);
            }
        }
        __m128 total = sum_lanes(sum[0], sum[1], sum[2], sum[3]);
        if constexpr (Row::bytes == 1 && metric == Metric::inner_product) {
            total = _mm_mul_ps(total, scales_of(task, ids));
        }
        _mm_storeu_ps(sums, total);
        if constexpr (metric == Metric::cosine) {
            _mm_storeu_ps(squares, sum_lanes(square[0], square[1], square[2], square[3]));
        }
    }
};

// Calls loop.score for group after group; the last one is filled up with the last row.
template <class Loop>
void score_all(const ScoreTask& task, const Loop& loop, float* sums, float* squares) {
    std::size_t i = 0;
    for (; i + group <= task.count; i += group) {
        loop.score(task.ids + i, task.ids + i + task.ahead, sums + i, squares + i);
    }
    if (i == task.count) return;
    std::int64_t ids[group];
    float last_sums[group], last_squares[group] = {};
    for (std::size_t r = 0; r < group; ++r) ids[r] = task.ids[i + r < task.count ? i + r : task.count - 1];
    loop.score(ids, ids, last_sums, last_squares);
    for (std::size_t r = 0; i < task.count; ++i, ++r) {
        sums[i] = last_sums[r];
        squares[i] = last_squares[r];
    }
}

template <class Row, Metric metric>
void score(const ScoreTask& task, float* sums, float* squares) {
    score_all(task, FloatLoop<Row, metric>{task}, sums, squares);
}

}  // namespace

const RerankLoops rerank_loops{
    {
        {&score<Float32, Metric::inner_product>, &score<Float32, Metric::l2>, &score<Float32, Metric::cosine>},
        {&score<Float16, Metric::inner_product>, &score<Float16, Metric::l2>, &score<Float16, Metric::cosine>},
        {&score<Bfloat16, Metric::inner_product>, &score<Bfloat16, Metric::l2>, &score<Bfloat16, Metric::cosine>},
        {&score<Int8, Metric::inner_product>, &score<Int8, Metric::l2>, &score<Int8, Metric::cosine>},
    },
    &portable::pack,
    &portable::keys,
    nullptr,
};

}  // namespace bowerbird::avx2
