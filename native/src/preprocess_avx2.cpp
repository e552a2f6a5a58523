#include <immintrin.h>

#include "preprocess_loops.hpp"

namespace bowerbird::avx2 {
namespace {

constexpr std::size_t lanes = 8;

__m256 widen(const std::uint8_t* bytes) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes))));
}

// One output pixel: red, green, blue and a fourth value without meaning.
__m128 resample_pixel(const RowTask& task, std::size_t x) {
    const float* pixel = task.row + std::size_t{3} * task.starts[x];
    const float* weights = task.weights + x * task.taps;
    __m128 even = _mm_setzero_ps(), odd = _mm_setzero_ps();
    std::size_t t = 0;
    for (; t + 2 <= task.taps; t += 2) {
        even = _mm_fmadd_ps(_mm_set1_ps(weights[t]), _mm_loadu_ps(pixel + 3 * t), even);
        odd = _mm_fmadd_ps(_mm_set1_ps(weights[t + 1]), _mm_loadu_ps(pixel + 3 * t + 3), odd);
    }
    if (t < task.taps) even = _mm_fmadd_ps(_mm_set1_ps(weights[t]), _mm_loadu_ps(pixel + 3 * t), even);
    return _mm_add_ps(even, odd);
}

void blend_rows(const std::uint8_t* const* rows, const float* weights, std::size_t taps, std::size_t count,
                float* out) {
    std::size_t i = 0;
    for (; i + 4 * lanes <= count; i += 4 * lanes) {
        __m256 sums[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
        for (std::size_t t = 0; t < taps; ++t) {
            const __m256 weight = _mm256_set1_ps(weights[t]);
            for (std::size_t s = 0; s < 4; ++s) {
                sums[s] = _mm256_fmadd_ps(weight, widen(rows[t] + i + s * lanes), sums[s]);
            }
        }
        for (std::size_t s = 0; s < 4; ++s) _mm256_storeu_ps(out + i + s * lanes, sums[s]);
    }
    for (; i < count; ++i) {
        float sum = 0.0F;
        for (std::size_t t = 0; t < taps; ++t) sum = __builtin_fmaf(weights[t], static_cast<float>(rows[t][i]), sum);
        out[i] = sum;
    }
}

void resample_row(const RowTask& task) {
    std::size_t x = 0;
    for (; x + 4 <= task.width; x += 4) {
        __m128 pixels[4];
        for (std::size_t p = 0; p < 4; ++p) pixels[p] = resample_pixel(task, x + p);
        _MM_TRANSPOSE4_PS(pixels[0], pixels[1], pixels[2], pixels[3]);
        for (std::size_t c = 0; c < 3; ++c) {
            const __m128 scale = _mm_set1_ps(task.scale[c]), offset = _mm_set1_ps(task.offset[c]);
            _mm_storeu_ps(task.planes[c] + x, _mm_fmadd_ps(pixels[c], scale, offset));
        }
    }
    for (; x < task.width; ++x) {
        alignas(16) float pixel[4];
        _mm_store_ps(pixel, resample_pixel(task, x));
        for (std::size_t c = 0; c < 3; ++c) {
            task.planes[c][x] = __builtin_fmaf(pixel[c], task.scale[c], task.offset[c]);
        }
    }
}

}  // namespace

const PreprocessLoops preprocess_loops{&blend_rows, &resample_row};

}  // namespace bowerbird::avx2
