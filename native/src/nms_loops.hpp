// The inner loop of nms, once a SIMD level.
#pragma once

#include <cstddef>

#include "dispatch.hpp"

namespace bowerbird {

// Boxes kept so far as columns; padded with empty boxes to a multiple of 16.
struct KeptBoxes {
    const float* x_min;
    const float* y_min;
    const float* x_max;
    const float* y_max;
    const float* area;
    std::size_t count;  // without the padding
};

struct Box {
    float x_min, y_min, x_max, y_max, area;
};

struct NmsLoops {
    // True if a kept box has inter > max_iou * union with the box.
    bool (*overlaps_any)(const KeptBoxes& kept, const Box& box, float max_iou);
};

BOWERBIRD_LOOPS(NmsLoops, nms_loops)

}  // namespace bowerbird
