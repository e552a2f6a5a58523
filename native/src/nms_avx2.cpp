#include <immintrin.h>

#include "nms_loops.hpp"

namespace bowerbird::avx2 {
namespace {

bool overlaps_any(const KeptBoxes& kept, const Box& box, float max_iou) {
    const __m256 zero = _mm256_setzero_ps();
    const __m256 x_min = _mm256_set1_ps(box.x_min), y_min = _mm256_set1_ps(box.y_min);
    const __m256 x_max = _mm256_set1_ps(box.x_max), y_max = _mm256_set1_ps(box.y_max);
    const __m256 area = _mm256_set1_ps(box.area), bar = _mm256_set1_ps(max_iou);
    for (std::size_t i = 0; i < kept.count; i += 8) {
        const __m256 right = _mm256_min_ps(_mm256_loadu_ps(kept.x_max + i), x_max);
        const __m256 left = _mm256_max_ps(_mm256_loadu_ps(kept.x_min + i), x_min);
        const __m256 bottom = _mm256_min_ps(_mm256_loadu_ps(kept.y_max + i), y_max);
        const __m256 top = _mm256_max_ps(_mm256_loadu_ps(kept.y_min + i), y_min);
        const __m256 inter = _mm256_mul_ps(_mm256_max_ps(_mm256_sub_ps(right, left), zero),
                                           _mm256_max_ps(_mm256_sub_ps(bottom, top), zero));
        const __m256 both = _mm256_sub_ps(_mm256_add_ps(_mm256_loadu_ps(kept.area + i), area), inter);
        const __m256 over = _mm256_cmp_ps(inter, _mm256_mul_ps(bar, both), _CMP_GT_OQ);
        if (_mm256_movemask_ps(over) != 0) return true;
    }
    return false;
}

}  // namespace

const NmsLoops nms_loops{&overlaps_any};

}  // namespace bowerbird::avx2
