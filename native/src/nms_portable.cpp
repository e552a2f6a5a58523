#include "nms_loops.hpp"

namespace bowerbird::portable {
namespace {

float smaller(float a, float b) { return a < b ? a : b; }

float larger(float a, float b) { return a > b ? a : b; }

float intersection(float x_min, float y_min, float x_max, float y_max, const Box& box) {
    const float width = larger(smaller(x_max, box.x_max) - larger(x_min, box.x_min), 0.0F);
    const float height = larger(smaller(y_max, box.y_max) - larger(y_min, box.y_min), 0.0F);
    return width * height;
}

// All places of the block, without a branch between: so the compiler can take several at once.
bool block_overlaps(const KeptBlock& kept, const Box& box, float max_iou) {
    int over = 0;
    for (std::size_t i = 0; i < block_boxes; ++i) {
        const float inter = intersection(kept.x_min[i], kept.y_min[i], kept.x_max[i], kept.y_max[i], box);
        over |= static_cast<int>(inter > max_iou * (kept.area[i] + box.area - inter));
    }
    return over != 0;
}

bool overlaps_any(const KeptBlock* blocks, const std::uint32_t* lists, std::size_t num_lists, const Box& box,
                  float max_iou) {
    for (std::size_t list = 0; list < num_lists; ++list) {
        for (std::uint32_t at = lists[list]; at != no_block; at = blocks[at].next) {
            if (block_overlaps(blocks[at], box, max_iou)) return true;
        }
    }
    return false;
}

void overlaps(const BoxColumns& boxes, std::size_t count, const Box& box, float* iou) {
    for (std::size_t i = 0; i < count; ++i) {
        const float inter = intersection(boxes.x_min[i], boxes.y_min[i], boxes.x_max[i], boxes.y_max[i], box);
        iou[i] = inter > 0.0F ? inter / (boxes.area[i] + box.area - inter) : 0.0F;
    }
}

}  // namespace

const NmsLoops nms_loops{&overlaps_any, &overlaps};

}  // namespace bowerbird::portable
