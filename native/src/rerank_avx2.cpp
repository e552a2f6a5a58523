// Random rows are bound by memory latency: while a row is multiplied, the row a few ahead is prefetched line by line.
#include <immintrin.h>

#include "rerank_loops.hpp"

namespace bowerbird::avx2 {
namespace {

constexpr std::size_t lanes = 8;
constexpr std::size_t line_bytes = 64;
constexpr std::size_t ahead_bytes = 4096;  // measured: 2 to 4 KiB ahead is best on server cores

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

float sum_lanes(__m256 values) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// Inner product of a row and the query; `next` is the row to bring into the cache meanwhile.
template <class Value>
float dot(const char* row, const float* query, std::size_t dimension, const char* next) {
    __m256 sums[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    std::size_t i = 0;
    for (; i + 4 * lanes <= dimension; i += 4 * lanes) {
        for (std::size_t b = 0; b < 4 * lanes * Value::bytes; b += line_bytes) {
            _mm_prefetch(next + i * Value::bytes + b, _MM_HINT_T0);
        }
        for (std::size_t s = 0; s < 4; ++s) {
            const std::size_t at = i + s * lanes;
            sums[s] = _mm256_fmadd_ps(Value::load(row + at * Value::bytes), _mm256_loadu_ps(query + at), sums[s]);
        }
    }
    for (std::size_t s = 0; i < dimension; i += lanes, ++s) {
        char tail[lanes * Value::bytes] = {};  // the rest of the row, then zeros
        _mm_prefetch(next + i * Value::bytes, _MM_HINT_T0);
        const std::size_t left = dimension - i < lanes ? dimension - i : lanes;
        __builtin_memcpy(tail, row + i * Value::bytes, left * Value::bytes);
        sums[s] = _mm256_fmadd_ps(Value::load(tail), _mm256_loadu_ps(query + i), sums[s]);
    }
    return sum_lanes(_mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3])));
}

template <class Value>
void dot_all(const DotTask& task, float* scores) {
    const std::size_t row_bytes = task.dimension * Value::bytes;
    const char* rows = static_cast<const char*>(task.rows);
    const auto row = [&](std::size_t i) {
        return rows + static_cast<std::size_t>(task.ids[i < task.count ? i : task.count - 1]) * row_bytes;
    };
    const std::size_t ahead = ahead_bytes / row_bytes + 1;
    for (std::size_t i = 0; i < ahead && i < task.count; ++i) {
        for (std::size_t b = 0; b < row_bytes; b += line_bytes) _mm_prefetch(row(i) + b, _MM_HINT_T0);
    }
    for (std::size_t i = 0; i < task.count; ++i) {
        scores[i] = dot<Value>(row(i), task.query, task.dimension, row(i + ahead));
    }
}

void dot_float32(const DotTask& task, float* scores) { dot_all<Float32>(task, scores); }

void dot_float16(const DotTask& task, float* scores) { dot_all<Float16>(task, scores); }

}  // namespace

const RerankLoops rerank_loops{&dot_float32, &dot_float16};

}  // namespace bowerbird::avx2
