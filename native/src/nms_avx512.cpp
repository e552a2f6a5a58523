#include <immintrin.h>

#include "nms_loops.hpp"

namespace bowerbird::avx512 {
namespace {

// A box in every lane.
struct Lanes {
    __m512 x_min, y_min, x_max, y_max, area;

    explicit Lanes(const Box& box)
        : x_min(_mm512_set1_ps(box.x_min)),
          y_min(_mm512_set1_ps(box.y_min)),
          x_max(_mm512_set1_ps(box.x_max)),
          y_max(_mm512_set1_ps(box.y_max)),
          area(_mm512_set1_ps(box.area)) {}
};

__m512 intersections(const float* x_min, const float* y_min, const float* x_max, const float* y_max, const Lanes& box) {
    const __m512 zero = _mm512_setzero_ps();
    const __m512 right = _mm512_min_ps(_mm512_loadu_ps(x_max), box.x_max);
    const __m512 left = _mm512_max_ps(_mm512_loadu_ps(x_min), box.x_min);
    const __m512 bottom = _mm512_min_ps(_mm512_loadu_ps(y_max), box.y_max);
    const __m512 top = _mm512_max_ps(_mm512_loadu_ps(y_min), box.y_min);
    return _mm512_mul_ps(_mm512_max_ps(_mm512_sub_ps(right, left), zero),
                         _mm512_max_ps(_mm512_sub_ps(bottom, top), zero));
}

// Area of the union.
__m512 unions(const float* area, const Lanes& box, __m512 inter) {
    return _mm512_sub_ps(_mm512_add_ps(_mm512_loadu_ps(area), box.area), inter);
}

bool overlaps_any(const KeptBlock* blocks, const std::uint32_t* lists, std::size_t num_lists, const Box& box,
                  float max_iou) {
    const Lanes lanes(box);
    const __m512 bar = _mm512_set1_ps(max_iou);
    for (std::size_t list = 0; list < num_lists; ++list) {
        for (std::uint32_t at = lists[list]; at != no_block; at = blocks[at].next) {
            const KeptBlock& kept = blocks[at];
            const __m512 inter = intersections(kept.x_min, kept.y_min, kept.x_max, kept.y_max, lanes);
            const __m512 least = _mm512_mul_ps(bar, unions(kept.area, lanes, inter));
            if (_mm512_cmp_ps_mask(inter, least, _CMP_GT_OQ) != 0) return true;
        }
    }
    return false;
}

void overlaps(const BoxColumns& boxes, std::size_t count, const Box& box, float* iou) {
    const Lanes lanes(box);
    for (std::size_t i = 0; i < count; i += 16) {
        const __m512 inter = intersections(boxes.x_min + i, boxes.y_min + i, boxes.x_max + i, boxes.y_max + i, lanes);
        const __mmask16 share = _mm512_cmp_ps_mask(inter, _mm512_setzero_ps(), _CMP_GT_OQ);
        _mm512_storeu_ps(iou + i, _mm512_maskz_div_ps(share, inter, unions(boxes.area + i, lanes, inter)));
    }
}

}  // namespace

const NmsLoops nms_loops{&overlaps_any, &overlaps};

}  // namespace bowerbird::avx512
