// Random rows are bound by the memory: while rows are multiplied, those some KiB ahead are prefetched line by line,
// into the second-level cache, which can wait for 48 lines at once where the first can for 16 (Golden Cove).
//
// Where the time goes: ns a row of 256 values, lower quartiles of samples in turns (Sapphire Rapids, 2 MiB pages).
//                                          int8  float16
//   the floor: rows prefetched and loaded  19.6     37.9
//   and the scale of int8, a fifth line    24.1        -   5/4 of 19.6 is 24.5: a line is a line
//   and multiplied                         25.0     41.3   5.8 and 10.4 where the rows lie in a cache
//   and the top 100 found of 10,000       up to 2 more; of 1,000, 3 to 6 more than of 10,000
// So an int8 row of 256 values with a scale cannot come below 1.25 of the gather of its values alone. The top-k is
// not hidden: 48 lines on their way last for some 150 ns (measured: of a pause of 290 ns every 64 rows about half is
// hidden, of longer ones no more than that), and a cut or the sort takes longer. Instructions added among the loads are
// hidden by half at most, a chain of as many cycles entirely: so few instructions count more than short chains.
#include <immintrin.h>

#include "rerank_loops.hpp"

namespace bowerbird::avx512 {
namespace {

constexpr std::size_t lanes = 16;
constexpr std::size_t long_lanes = 8;  // ids and keys
constexpr std::size_t block = 4 * lanes;  // values taken in one turn: a whole number of cache lines of every row type
constexpr std::size_t line_bytes = 64;
constexpr std::size_t group = 4;  // rows scored together: a vector of the query is loaded once for all, and their sums
                                  // are chains of additions that do not wait for one another

void prefetch(const void* at) { _mm_prefetch(static_cast<const char*>(at), _MM_HINT_T1); }

// One bit for each of the first `count` values.
__mmask64 first_values(std::size_t count) { return count >= 64 ? ~__mmask64{0} : (__mmask64{1} << count) - 1; }

struct Float32 {
    static constexpr std::size_t bytes = 4;
    static __m512 load(const char* at) { return _mm512_loadu_ps(at); }
    static __m512 load(const char* at, __mmask16 valid) { return _mm512_maskz_loadu_ps(valid, at); }
};

struct Float16 {
    static constexpr std::size_t bytes = 2;
    static __m512 load(const char* at) { return _mm512_cvtph_ps(_mm256_loadu_epi16(at)); }
    static __m512 load(const char* at, __mmask16 valid) {
        return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(valid, at));
    }
};

struct Bfloat16 {
    static constexpr std::size_t bytes = 2;
    static __m512 widen(__m256i values) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16));
    }
    static __m512 load(const char* at) { return widen(_mm256_loadu_epi16(at)); }
    static __m512 load(const char* at, __mmask16 valid) { return widen(_mm256_maskz_loadu_epi16(valid, at)); }
};

struct Int8 {
    static constexpr std::size_t bytes = 1;
    static __m512 widen(__m128i values) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(values)); }
    static __m512 load(const char* at) { return widen(_mm_loadu_epi8(at)); }
    static __m512 load(const char* at, __mmask16 valid) { return widen(_mm_maskz_loadu_epi8(valid, at)); }
};

// Where the rows of a group begin, and those that are prefetched meanwhile. If the rows are narrow, those of the next
// group are brought on from L2 to L1: measured, it saves 3 to 6 % of the time of float16 and 2 % of int8, and costs
// float32 1 %.
template <bool narrow>
struct Group {
    const char* at[group];
    const char* soon[group];
    const char* next[group];

    Group(const ScoreTask& task, const std::int64_t* ids, const std::int64_t* next_ids, std::size_t row_bytes) {
        const char* rows = static_cast<const char*>(task.rows);
        const bool whole_lines = ((reinterpret_cast<std::uintptr_t>(rows) | row_bytes) & (line_bytes - 1)) == 0;
#pragma GCC unroll 4
        for (std::size_t r = 0; r < group; ++r) {
            at[r] = rows + static_cast<std::size_t>(ids[r]) * row_bytes;
            soon[r] = rows + static_cast<std::size_t>(ids[r + group]) * row_bytes;
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
            for (std::size_t line = 0; line < bytes; line += line_bytes) {
                prefetch(next[r] + offset + line);
                if constexpr (narrow) _mm_prefetch(soon[r] + offset + line, _MM_HINT_T0);
            }
        }
    }
};

// Sums of the lanes of a, b, c and d; all four are added up in one order.
__m128 sum_lanes(__m512 a, __m512 b, __m512 c, __m512 d) {
    const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
    const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xEE));
    __m512 sums = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
    sums = _mm512_add_ps(sums, _mm512_permute_ps(sums, 0x4E));
    sums = _mm512_add_ps(sums, _mm512_permute_ps(sums, 0xB1));
    return _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, sums));
}

__m128 scales_of(const ScoreTask& task, const std::int64_t* ids) {
    return _mm_setr_ps(task.scales[ids[0]], task.scales[ids[1]], task.scales[ids[2]], task.scales[ids[3]]);
}

template <class Row, Metric metric>
struct FloatLoop {
    const ScoreTask& task;

    static void add(__m512 row, __m512 query, __m512 scale, __m512& sum, __m512& square) {
        if constexpr (metric == Metric::l2) {
            const __m512 difference =
                Row::bytes == 1 ? _mm512_fnmadd_ps(row, scale, query) : _mm512_sub_ps(query, row);
            sum = _mm512_fmadd_ps(difference, difference, sum);
        } else {
            sum = _mm512_fmadd_ps(row, query, sum);
            if constexpr (metric == Metric::cosine) square = _mm512_fmadd_ps(row, row, square);
        }
    }

    [[gnu::always_inline]] void score(const std::int64_t* ids, const std::int64_t* next_ids, float* sums,
                                      float* squares) const {
        const Group<(Row::bytes < 4)> rows(task, ids, next_ids, task.dimension * Row::bytes);
        __m512 sum[group], square[group], scale[group];
#pragma GCC unroll 4
        for (std::size_t r = 0; r < group; ++r) {
            sum[r] = square[r] = scale[r] = _mm512_setzero_ps();
            if constexpr (Row::bytes == 1 && metric == Metric::l2) scale[r] = _mm512_set1_ps(task.scales[ids[r]]);
        }
        std::size_t i = 0;
        for (; i + block <= task.dimension; i += block) {
            rows.template prefetch_lines<block * Row::bytes>(i * Row::bytes);
#pragma GCC unroll 4
            for (std::size_t v = 0; v < block; v += lanes) {
                const __m512 query = _mm512_loadu_ps(task.query + i + v);
#pragma GCC unroll 4
                for (std::size_t r = 0; r < group; ++r) {
                    add(Row::load(rows.at[r] + (i + v) * Row::bytes), query, scale[r], sum[r], square[r]);
                }
            }
        }
        for (; i < task.dimension; i += lanes) {
            rows.template prefetch_lines<1>(i * Row::bytes);
            const auto valid = static_cast<__mmask16>(first_values(task.dimension - i));
            const __m512 query = _mm512_loadu_ps(task.query + i);
#pragma GCC unroll 4
            for (std::size_t r = 0; r < group; ++r) {
                add(Row::load(rows.at[r] + i * Row::bytes, valid), query, scale[r], sum[r], square[r]);
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
    std::int64_t ids[2 * group];  // the latter half comes next
    float last_sums[group], last_squares[group] = {};
    for (std::size_t r = 0; r < 2 * group; ++r) ids[r] = task.ids[i + r < task.count ? i + r : task.count - 1];
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

// The inner product of int8 rows takes a quarter of the instructions in integers (VNNI): the query is rounded to
// multiples of a power of two, `step`, and these are written as three signed digits of base 256, each multiplied with
// 64 values of a row at once. The integer sums are exact. The rounding of the query changes a score by at most
// step / 2 * sum |row| <= 2^-22 * max |query| * sum |row|, which is less than a float32 sum of the products may err.
// A lane's sum of 4096 / 16 products is below 2^24, so that it is a float, too.
constexpr float largest_multiple = 127 * (65536 + 256 + 1);

using DigitBlock = std::int8_t[Digits::count][Digits::block];

void split_block(const float* query, float step, DigitBlock& digits) {
    for (std::size_t i = 0; i < Digits::block; i += lanes) {
        const __m512 multiples = _mm512_mul_ps(_mm512_loadu_ps(query + i), _mm512_set1_ps(1 / step));
        __m512i rest = _mm512_cvtps_epi32(multiples);
        for (std::size_t d = 0; d < Digits::count; ++d) {
            const __m512i digit = _mm512_srai_epi32(_mm512_slli_epi32(rest, 24), 24);
            _mm_storeu_epi8(digits[d] + i, _mm512_cvtepi32_epi8(digit));
            rest = _mm512_srai_epi32(_mm512_sub_epi32(rest, digit), 8);
        }
    }
}

// The instruction multiplies with unsigned bytes and gets row + 128. What that adds is taken from the sums beforehand.
void set_start(Digits& digits, std::size_t dimension) {
    for (std::size_t d = 0; d < Digits::count; ++d) {
        __m512i added = _mm512_setzero_si512();
        for (std::size_t i = 0; i < dimension; i += Digits::block) {
            const __m512i query = _mm512_load_si512(digits.values[i / Digits::block][d]);
            added = _mm512_dpbusd_epi32(added, _mm512_set1_epi8(-128), query);  // -128 is 128 without a sign
        }
        _mm512_store_si512(digits.start[d], _mm512_sub_epi32(_mm512_setzero_si512(), added));
    }
}

// A query of zeros has no step; one so small that its step would be no normal float has none either.
bool split(const float* query, std::size_t dimension, Digits& digits) {
    __m512 sizes = _mm512_setzero_ps();
    for (std::size_t i = 0; i < dimension; i += lanes) {
        sizes = _mm512_max_ps(sizes, _mm512_abs_ps(_mm512_loadu_ps(query + i)));
    }
    const float largest = _mm512_reduce_max_ps(sizes);
    if (largest < 0x1p-100F) return false;
    const __m128 power = _mm_and_ps(_mm_set_ss(largest), _mm_castsi128_ps(_mm_set1_epi32(0x7F800000)));
    digits.step = _mm_cvtss_f32(power) * 0x1p-22F;
    if (digits.step * largest_multiple < largest) digits.step *= 2;
    for (std::size_t i = 0; i < dimension; i += Digits::block) {
        split_block(query + i, digits.step, digits.values[i / Digits::block]);
    }
    set_start(digits, dimension);
    return true;
}

struct DigitLoop {
    const ScoreTask& task;

    static __m512 joined(const __m512i (&sums)[Digits::count]) {
        const __m512 base = _mm512_set1_ps(256.0F);
        const __m512 high = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[2]), base, _mm512_cvtepi32_ps(sums[1]));
        return _mm512_fmadd_ps(high, base, _mm512_cvtepi32_ps(sums[0]));
    }

    static void add(__m512i row, const DigitBlock& query, __m512i (&sums)[Digits::count]) {
        const __m512i above_zero = _mm512_xor_si512(row, _mm512_set1_epi8(-128));  // row + 128
#pragma GCC unroll 3
        for (std::size_t d = 0; d < Digits::count; ++d) {
            sums[d] = _mm512_dpbusd_epi32(sums[d], above_zero, _mm512_load_si512(query[d]));
        }
    }

    [[gnu::always_inline]] void score(const std::int64_t* ids, const std::int64_t* next_ids, float* out,
                                      float*) const {
        const Group<true> rows(task, ids, next_ids, task.dimension);
        __m512i sums[group][Digits::count];
#pragma GCC unroll 4
        for (std::size_t r = 0; r < group; ++r) {
#pragma GCC unroll 3
            for (std::size_t d = 0; d < Digits::count; ++d) sums[r][d] = _mm512_load_si512(task.digits->start[d]);
        }
        std::size_t i = 0;
        for (; i + Digits::block <= task.dimension; i += Digits::block) {
            rows.prefetch_lines<Digits::block>(i);
#pragma GCC unroll 4
            for (std::size_t r = 0; r < group; ++r) {
                add(_mm512_loadu_si512(rows.at[r] + i), task.digits->values[i / Digits::block], sums[r]);
            }
        }
        if (i < task.dimension) {
            rows.prefetch_lines<1>(i);
            const __mmask64 valid = first_values(task.dimension - i);
#pragma GCC unroll 4
            for (std::size_t r = 0; r < group; ++r) {
                const __m512i row = _mm512_maskz_loadu_epi8(valid, rows.at[r] + i);
                add(row, task.digits->values[i / Digits::block], sums[r]);
            }
        }
        const __m128 total = sum_lanes(joined(sums[0]), joined(sums[1]), joined(sums[2]), joined(sums[3]));
        const __m128 scales = _mm_mul_ps(scales_of(task, ids), _mm_set1_ps(task.digits->step));
        _mm_storeu_ps(out, _mm_mul_ps(total, scales));
    }
};

template <>
void score<Int8, Metric::inner_product>(const ScoreTask& task, float* sums, float* squares) {
    if (task.digits != nullptr) {
        score_all(task, DigitLoop{task}, sums, squares);
    } else {
        score_all(task, FloatLoop<Int8, Metric::inner_product>{task}, sums, squares);
    }
}

// Lanes in the mask, packed; returns their number. A whole vector is written: what comes behind them is written later,
// or is the rest of the room.
// The number is taken before the store: under ThreadSanitizer a store is a call, and GCC 12 saves a mask over it as one
// byte and reads four.
std::size_t put(__m512i values, __mmask8 wanted, void* at) {
    const auto size = static_cast<std::size_t>(__builtin_popcount(wanted));
    _mm512_storeu_si512(at, _mm512_maskz_compress_epi64(wanted, values));
    return size;
}

std::size_t pack(const std::int64_t* ids, std::size_t count, std::size_t num_rows, std::int64_t* packed) {
    const __m512i end = _mm512_set1_epi64(static_cast<long long>(num_rows));
    std::size_t i = 0, size = 0;
    __mmask8 bad = 0;
    for (; i + long_lanes <= count; i += long_lanes) {
        const __m512i id = _mm512_loadu_si512(ids + i);
        const __mmask8 row = _mm512_cmplt_epu64_mask(id, end);
        bad |= ~row & _mm512_cmpneq_epi64_mask(id, _mm512_set1_epi64(-1));
        size += put(id, row, packed + size);
    }
    const std::size_t rest = portable::pack(ids + i, count - i, num_rows, packed + size);
    return bad != 0 || rest == refused ? refused : size + rest;
}

std::size_t keys(const float* ranks, const std::int64_t* ids, std::size_t count, float bar, Key* keys) {
    const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
    std::size_t i = 0, size = 0;
    __mmask8 bad = 0;
    for (; i + long_lanes <= count; i += long_lanes) {
        const __m256 rank = _mm256_add_ps(_mm256_loadu_ps(ranks + i), _mm256_setzero_ps());
        const __m256i bits = _mm256_castps_si256(rank);
        const __mmask8 below_zero = _mm256_movepi32_mask(bits);
        const __m256i descending = _mm256_mask_andnot_epi32(bits, ~below_zero, bits, magnitude);
        const __m512i high = _mm512_slli_epi64(_mm512_cvtepu32_epi64(descending), id_bits);
        bad |= _mm256_cmp_ps_mask(rank, rank, _CMP_UNORD_Q);
        size += put(_mm512_or_si512(high, _mm512_loadu_si512(ids + i)),
                    _mm256_cmp_ps_mask(rank, _mm256_set1_ps(bar), _CMP_GE_OQ), keys + size);
    }
    const std::size_t rest = portable::keys(ranks + i, ids + i, count - i, bar, keys + size);
    return bad != 0 || rest == refused ? refused : size + rest;
}

}  // namespace

const RerankLoops rerank_loops{
    {
        {&score<Float32, Metric::inner_product>, &score<Float32, Metric::l2>, &score<Float32, Metric::cosine>},
        {&score<Float16, Metric::inner_product>, &score<Float16, Metric::l2>, &score<Float16, Metric::cosine>},
        {&score<Bfloat16, Metric::inner_product>, &score<Bfloat16, Metric::l2>, &score<Bfloat16, Metric::cosine>},
        {&score<Int8, Metric::inner_product>, &score<Int8, Metric::l2>, &score<Int8, Metric::cosine>},
    },
    &pack,
    &keys,
    &split,
};

}  // namespace bowerbird::avx512
