#include <immintrin.h>

#include "detection_postprocess_loops.hpp"

namespace bowerbird::avx512 {
namespace {

constexpr std::size_t ahead = 1024;  // values: the processor's own prefetch stops at every page

std::uint64_t not_below_of_16(const float* values, __m512 limit) {
    return _mm512_cmp_ps_mask(_mm512_loadu_ps(values), limit, _CMP_NLT_UQ);
}

std::size_t not_below(const float* values, std::size_t count, float limit, std::uint32_t* positions) {
    const __m512 bar = _mm512_set1_ps(limit);
    std::size_t hits = 0, first = 0;
    for (; first + 64 <= count; first += 64) {
        const float* next = values + first;
        for (std::size_t line = 0; line < 64; line += 16) _mm_prefetch(next + ahead + line, _MM_HINT_T0);
        std::uint64_t found = not_below_of_16(next, bar) | not_below_of_16(next + 16, bar) << 16 |
                              not_below_of_16(next + 32, bar) << 32 | not_below_of_16(next + 48, bar) << 48;
        for (; found != 0; found &= found - 1) {
            positions[hits++] = static_cast<std::uint32_t>(first) + static_cast<std::uint32_t>(__builtin_ctzll(found));
        }
    }
    for (; first < count; ++first) {
        if (!(values[first] < limit)) positions[hits++] = static_cast<std::uint32_t>(first);
    }
    return hits;
}

}  // namespace

const DetectionLoops detection_loops{&not_below};

}  // namespace bowerbird::avx512
