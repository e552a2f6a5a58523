#include <immintrin.h>

#include "preprocess_loops.hpp"

namespace bowerbird::avx512 {
namespace {

constexpr std::size_t lanes = 16;

__m512 widen(__m128i bytes) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)); }

void blend_rows(const std::uint8_t* const* rows, const float* weights, std::size_t taps, std::size_t count,
                float* out) {
    std::size_t i = 0;
    for (; i + 4 * lanes <= count; i += 4 * lanes) {
        __m512 sums[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
        for (std::size_t t = 0; t < taps; ++t) {
            const __m512 weight = _mm512_set1_ps(weights[t]);
            const auto* bytes = reinterpret_cast<const __m128i*>(rows[t] + i);
            for (std::size_t s = 0; s < 4; ++s) {
                sums[s] = _mm512_fmadd_ps(weight, widen(_mm_loadu_si128(bytes + s)), sums[s]);
            }
        }
        for (std::size_t s = 0; s < 4; ++s) _mm512_storeu_ps(out + i + s * lanes, sums[s]);
    }
    for (; i < count; i += lanes) {
        const std::size_t left = count - i;
        const auto valid = static_cast<__mmask16>(left >= lanes ? 0xFFFF : (1U << left) - 1);
        __m512 sum = _mm512_setzero_ps();
        for (std::size_t t = 0; t < taps; ++t) {
            sum = _mm512_fmadd_ps(_mm512_set1_ps(weights[t]), widen(_mm_maskz_loadu_epi8(valid, rows[t] + i)), sum);
        }
        _mm512_mask_storeu_ps(out + i, valid, sum);
    }
}

// Pixels of three channels do not fill wide registers: the 128-bit version is as fast.
void resample_row(const RowTask& task) { avx2::preprocess_loops.resample_row(task); }

}  // namespace

const PreprocessLoops preprocess_loops{&blend_rows, &resample_row};

}  // namespace bowerbird::avx512
