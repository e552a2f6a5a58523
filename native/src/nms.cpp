// Boxes are sorted by class, score and index; each box is tested against the boxes of its class kept so far and leaves
// at the first hit. Kept boxes are few, so this is far less work than the full matrix of pairs.
#include "bowerbird/nms.hpp"

#include <algorithm>
#include <vector>

#include "kernels.hpp"

namespace bowerbird {
namespace {

constexpr std::size_t padding = 16;  // lanes of the widest kernel

struct Entry {
    std::int64_t class_id;
    float score;
    std::int64_t index;
};

bool better(const Entry& a, const Entry& b) {
    return a.score != b.score ? a.score > b.score : a.index < b.index;
}

Box box_at(const float* boxes, std::int64_t index) {
    const float* corner = boxes + index * 4;
    const float width = std::max(corner[2] - corner[0], 0.0F);
    const float height = std::max(corner[3] - corner[1], 0.0F);
    return {corner[0], corner[1], corner[2], corner[3], width * height};
}

// The kept boxes of one class as columns with room for the padding that kernels read.
class Columns {
public:
    explicit Columns(std::size_t capacity) : stride_(capacity + padding), values_(5 * stride_) {}

    void clear() {
        count_ = 0;
        erase_from(0);
    }

    void add(const Box& box) {
        const float values[] = {box.x_min, box.y_min, box.x_max, box.y_max, box.area};
        for (std::size_t c = 0; c < 5; ++c) values_[c * stride_ + count_] = values[c];
        ++count_;
        if (count_ % padding == 0) erase_from(count_);
    }

    KeptBoxes view() const {
        const float* values = values_.data();
        return {values, values + stride_, values + 2 * stride_, values + 3 * stride_, values + 4 * stride_, count_};
    }

private:
    // Make the next `padding` slots empty boxes, which overlap nothing.
    void erase_from(std::size_t first) {
        for (std::size_t c = 0; c < 5; ++c) std::fill_n(values_.begin() + static_cast<std::ptrdiff_t>(c * stride_ + first), padding, 0.0F);
    }

    std::size_t stride_;
    std::size_t count_ = 0;
    std::vector<float> values_;
};

std::vector<Entry> sorted_entries(const NmsRequest& request) {
    std::vector<Entry> entries(request.num_boxes);
    for (std::size_t i = 0; i < request.num_boxes; ++i) {
        const std::int64_t class_id = request.classes == nullptr ? 0 : request.classes[i];
        entries[i] = {class_id, request.scores[i], static_cast<std::int64_t>(i)};
    }
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
        return a.class_id != b.class_id ? a.class_id < b.class_id : better(a, b);
    });
    return entries;
}

}  // namespace

std::vector<std::int64_t> nms(const NmsRequest& request) {
    const auto overlaps_any = kernels().overlaps_any;
    const std::vector<Entry> entries = sorted_entries(request);
    std::vector<Entry> survivors;
    Columns kept(request.num_boxes + padding);
    for (std::size_t i = 0; i < entries.size(); ++i) {
        if (i > 0 && entries[i].class_id != entries[i - 1].class_id) kept.clear();
        const Box box = box_at(request.boxes, entries[i].index);
        if (overlaps_any(kept.view(), box, request.max_iou)) continue;
        kept.add(box);
        survivors.push_back(entries[i]);
    }
    std::sort(survivors.begin(), survivors.end(), better);
    std::vector<std::int64_t> indices(survivors.size());
    std::transform(survivors.begin(), survivors.end(), indices.begin(), [](const Entry& entry) { return entry.index; });
    return indices;
}

}  // namespace bowerbird
