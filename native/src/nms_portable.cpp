#include "nms_loops.hpp"

namespace bowerbird::portable {
namespace {

float smaller(float a, float b) { return a < b ? a : b; }

float larger(float a, float b) { return a > b ? a : b; }

bool overlaps_any(const KeptBoxes& kept, const Box& box, float max_iou) {
    for (std::size_t i = 0; i < kept.count; ++i) {
        const float width = larger(smaller(kept.x_max[i], box.x_max) - larger(kept.x_min[i], box.x_min), 0.0F);
        const float height = larger(smaller(kept.y_max[i], box.y_max) - larger(kept.y_min[i], box.y_min), 0.0F);
        const float inter = width * height;
        if (inter > max_iou * (kept.area[i] + box.area - inter)) return true;
    }
    return false;
}

}  // namespace

const NmsLoops nms_loops{&overlaps_any};

}  // namespace bowerbird::portable
