#include <immintrin.h>

#include "nms_loops.hpp"

namespace bowerbird::avx2 {
namespace {

// A box in every lane.
struct Lanes {
    __m256 x_min, y_min, x_max, y_max, area;

    explicit Lanes(const Box& box)
        : x_min(_mm256_set1_ps(box.x_min)),
          y_min(_mm256_set1_ps(box.y_min)),
          x_max(_mm256_set1_ps(box.x_max)),
          y_max(_mm256_set1_ps(box.y_max)),
          area(_mm256_set1_ps(box.area)) {}
};

__m256 intersections(const float* x_min, const float* y_min, const float* x_max, const float* y_max, const Lanes& box) {
    const __m256 zero = _mm256_setzero_ps();
    const __m256 right = _mm256_min_ps(_mm256_loadu_ps(x_max), box.x_max);
    const __m256 left = _mm256_max_ps(_mm256_loadu_ps(x_min), box.x_min);
    const __m256 bottom = _mm256_min_ps(_mm256_loadu_ps(y_max), box.y_max);
    const __m256 top = _mm256_max_ps(_mm256_loadu_ps(y_min), box.y_min);
    return _mm256_mul_ps(_mm256_max_ps(_mm256_sub_ps(right, left), zero),
                         _mm256_max_ps(_mm256_sub_ps(bottom, top), zero));
}

// Area of the union.
__m256 unions(const float* area, const Lanes& box, __m256 inter) {
    return _mm256_sub_ps(_mm256_add_ps(_mm256_loadu_ps(area), box.area), inter);
}

// For half a block: lanes over the threshold.
__m256 over(const KeptBlock& kept, std::size_t i, const Lanes& box, __m256 max_iou) {
    const __m256 inter = intersections(kept.x_min + i, kept.y_min + i, kept.x_max + i, kept.y_max + i, box);
    return _mm256_cmp_ps(inter, _mm256_mul_ps(max_iou, unions(kept.area + i, box, inter)), _CMP_GT_OQ);
}

bool overlaps_any(const KeptBlock* blocks, const std::uint32_t* lists, std::size_t num_lists, const Box& box,
                  float max_iou) {
    const Lanes lanes(box);
    const __m256 bar = _mm256_set1_ps(max_iou);
    for (std::size_t list = 0; list < num_lists; ++list) {
        for (std::uint32_t at = lists[list]; at != no_block; at = blocks[at].next) {
            const KeptBlock& kept = blocks[at];
            const __m256 hits = _mm256_or_ps(over(kept, 0, lanes, bar), over(kept, 8, lanes, bar));
            if (_mm256_movemask_ps(hits) != 0) return true;
        }
    }
    return false;
}

void overlaps(const BoxColumns& boxes, std::size_t count, const Box& box, float* iou) {
    const Lanes lanes(box);
    for (std::size_t i = 0; i < count; i += 8) {
        const __m256 inter = intersections(boxes.x_min + i, boxes.y_min + i, boxes.x_max + i, boxes.y_max + i, lanes);
        const __m256 share = _mm256_cmp_ps(inter, _mm256_setzero_ps(), _CMP_GT_OQ);
        _mm256_storeu_ps(iou + i, _mm256_and_ps(_mm256_div_ps(inter, unions(boxes.area + i, lanes, inter)), share));
    }
}

}  // namespace

const NmsLoops nms_loops{&overlaps_any, &overlaps};

}  // namespace bowerbird::avx2
