#include <immintrin.h>

#include "detection_postprocess_loops.hpp"

namespace bowerbird::avx2 {
namespace {

constexpr std::size_t ahead = 1024;  // values: the processor's own prefetch stops at every page

std::uint32_t not_below_of_8(const float* values, __m256 limit) {
    const __m256 found = _mm256_cmp_ps(_mm256_loadu_ps(values), limit, _CMP_NLT_UQ);
    return static_cast<std::uint32_t>(_mm256_movemask_ps(found));
}

std::size_t not_below(const float* values, std::size_t count, float limit, std::uint32_t* positions) {
    const __m256 bar = _mm256_set1_ps(limit);
    std::size_t hits = 0, first = 0;
    for (; first + 32 <= count; first += 32) {
        const float* next = values + first;
        _mm_prefetch(next + ahead, _MM_HINT_T0);
        _mm_prefetch(next + ahead + 16, _MM_HINT_T0);
        std::uint32_t found = not_below_of_8(next, bar) | not_below_of_8(next + 8, bar) << 8 |
                              not_below_of_8(next + 16, bar) << 16 | not_below_of_8(next + 24, bar) << 24;
        for (; found != 0; found &= found - 1) {
            positions[hits++] = static_cast<std::uint32_t>(first) + static_cast<std::uint32_t>(__builtin_ctz(found));
        }
    }
    for (; first < count; ++first) {
        if (!(values[first] < limit)) positions[hits++] = static_cast<std::uint32_t>(first);
    }
    return hits;
}

}  // namespace

const DetectionLoops detection_loops{&not_below};

}  // namespace bowerbird::avx2
