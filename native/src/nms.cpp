// Boxes are taken best first; each is tested against the boxes of its class kept so far and leaves at the first hit.
// Kept boxes are few, so this is far less work than the full matrix of pairs.
#include "bowerbird/nms.hpp"

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "parallel.hpp"
#include "ranking.hpp"
#include "suppression.hpp"

namespace bowerbird {
namespace {

// One image.
struct Image {
    const float* boxes;
    const float* scores;
    const std::int64_t* classes;
    std::size_t num_boxes;
};

Image image_of(const NmsRequest& request, std::size_t image) {
    const std::size_t first = image * request.num_boxes;
    return {request.boxes + first * 4, request.scores + first,
            request.classes == nullptr ? nullptr : request.classes + first,
            request.counts == nullptr ? request.num_boxes : static_cast<std::size_t>(request.counts[image])};
}

// Numbers of groups for any classes, in order of appearance.
Groups numbered(const Image& image) {
    Groups groups;
    std::unordered_map<std::int64_t, std::uint32_t> numbers;
    for (std::size_t i = 0; i < image.num_boxes; ++i) {
        const auto next = static_cast<std::uint32_t>(groups.sizes.size());
        const auto [entry, is_new] = numbers.try_emplace(image.classes[i], next);
        if (is_new) groups.sizes.push_back(0);
        groups.of_box.push_back(entry->second);
        ++groups.sizes[entry->second];
    }
    return groups;
}

// The groups of an image: its classes, which mostly lie in a short range and then need no table to be numbered.
Groups groups_of(const Image& image) {
    if (image.classes == nullptr || image.num_boxes == 0) return {{}, {static_cast<std::uint32_t>(image.num_boxes)}};
    const auto [low, high] = std::minmax_element(image.classes, image.classes + image.num_boxes);
    const std::uint64_t range = static_cast<std::uint64_t>(*high) - static_cast<std::uint64_t>(*low);
    if (range >= 2 * image.num_boxes + 1024) return numbered(image);
    Groups groups{std::vector<std::uint32_t>(image.num_boxes), std::vector<std::uint32_t>(range + 1)};
    for (std::size_t i = 0; i < image.num_boxes; ++i) {
        groups.of_box[i] = static_cast<std::uint32_t>(image.classes[i] - *low);
        ++groups.sizes[groups.of_box[i]];
    }
    return groups;
}

Extent extent_of(const Image& image) {
    if (image.num_boxes == 0) return {};
    Extent extent{image.boxes[0], image.boxes[1], image.boxes[0], image.boxes[1]};
    for (std::size_t i = 1; i < image.num_boxes; ++i) {
        const float x = image.boxes[i * 4], y = image.boxes[i * 4 + 1];
        extent = {std::min(extent.low_x, x), std::min(extent.low_y, y), std::max(extent.high_x, x),
                  std::max(extent.high_y, y)};
    }
    return extent;
}

// Writes at most max_kept indices; returns how many.
std::size_t suppress(const Image& image, float max_iou, std::size_t max_kept, std::int64_t* indices) {
    const Groups groups = groups_of(image);
    KeptBoxes kept(groups.sizes, max_iou, extent_of(image));
    std::vector<RankKey> keys(image.num_boxes);
    for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = rank_key(image.scores[i], i);
    sort_best_first(keys);
    std::size_t count = 0;
    for (auto key = keys.begin(); key != keys.end() && count < max_kept; ++key) {
        const std::uint32_t i = index_of(*key);
        if (kept.admit(groups.of(i), box_of(image.boxes + i * std::size_t{4}))) indices[count++] = i;
    }
    return count;
}

}  // namespace

void nms(const NmsRequest& request, std::int64_t* indices, std::int32_t* counts) {
    parallel_for(request.num_images, request.num_threads, [&](std::size_t image) {
        std::int64_t* row = indices + image * request.max_kept;
        const std::size_t count = suppress(image_of(request, image), request.max_iou, request.max_kept, row);
        std::fill(row + count, row + request.max_kept, -1);
        counts[image] = static_cast<std::int32_t>(count);
    });
}

void soft_nms(const SoftNmsRequest& request, std::int64_t* indices, float* scores, std::int32_t* count) {
    const Image image{request.boxes, request.scores, request.classes, request.num_boxes};
    std::vector<Box> boxes(image.num_boxes);
    for (std::size_t i = 0; i < boxes.size(); ++i) boxes[i] = box_of(image.boxes + i * 4);
    const std::vector<float> initial(image.scores, image.scores + image.num_boxes);
    const SoftDecay decay{request.decay, request.sigma, request.max_iou, request.min_score};
    const std::vector<RankKey> picked = soft_suppress(boxes, initial, groups_of(image), decay);
    for (std::size_t i = 0; i < image.num_boxes; ++i) {
        indices[i] = i < picked.size() ? static_cast<std::int64_t>(index_of(picked[i])) : -1;
        scores[i] = i < picked.size() ? score_of(picked[i]) : 0.0F;
    }
    *count = static_cast<std::int32_t>(picked.size());
}

}  // namespace bowerbird
