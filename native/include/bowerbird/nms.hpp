// Greedy non-maximum suppression.
// Legend: N boxes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bowerbird {

struct NmsRequest {
    const float* boxes;   // (N, 4) xyxy, finite
    const float* scores;  // (N), finite
    std::size_t num_boxes;  // N < 2^32
    const std::int64_t* classes;  // (N), boxes of different classes never suppress each other; null: one class
    float max_iou;                // in [0, 1]; a pair at exactly this value survives
};

// Indices of the boxes that survive, best score first, ties keep the lower index.
// A box without area (empty or inverted) has IoU 0 with every box: it survives and suppresses nothing.
std::vector<std::int64_t> nms(const NmsRequest& request);

}  // namespace bowerbird
