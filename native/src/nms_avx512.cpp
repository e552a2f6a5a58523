#include <immintrin.h>

#include "nms_loops.hpp"

namespace bowerbird::avx512 {
namespace {

bool overlaps_any(const KeptBoxes& kept, const Box& box, float max_iou) {
    const __m512 zero = _mm512_setzero_ps();
    const __m512 x_min = _mm512_set1_ps(box.x_min), y_min = _mm512_set1_ps(box.y_min);
    const __m512 x_max = _mm512_set1_ps(box.x_max), y_max = _mm512_set1_ps(box.y_max);
    const __m512 area = _mm512_set1_ps(box.area), bar = _mm512_set1_ps(max_iou);
    for (std::size_t i = 0; i < kept.count; i += 16) {
        const __m512 right = _mm512_min_ps(_mm512_loadu_ps(kept.x_max + i), x_max);
        const __m512 left = _mm512_max_ps(_mm512_loadu_ps(kept.x_min + i), x_min);
        const __m512 bottom = _mm512_min_ps(_mm512_loadu_ps(kept.y_max + i), y_max);
        const __m512 top = _mm512_max_ps(_mm512_loadu_ps(kept.y_min + i), y_min);
        const __m512 inter = _mm512_mul_ps(_mm512_max_ps(_mm512_sub_ps(right, left), zero),
                                           _mm512_max_ps(_mm512_sub_ps(bottom, top), zero));
        const __m512 both = _mm512_sub_ps(_mm512_add_ps(_mm512_loadu_ps(kept.area + i), area), inter);
        if (_mm512_cmp_ps_mask(inter, _mm512_mul_ps(bar, both), _CMP_GT_OQ) != 0) return true;
    }
    return false;
}

}  // namespace

const NmsLoops nms_loops{&overlaps_any};

}  // namespace bowerbird::avx512
