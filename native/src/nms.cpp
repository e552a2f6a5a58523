// Boxes are taken best first; each is tested against the boxes of its class kept so far and leaves at the first hit.
// Kept boxes are few, so this is far less work than the full matrix of pairs.
#include "bowerbird/nms.hpp"

#include <algorithm>
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

// Numbers of groups for any classes, ascending. By sorting: there are classes that make any hash table slow.
Groups numbered(const Image& image) {
    std::vector<std::int64_t> classes(image.classes, image.classes + image.num_boxes);
    std::sort(classes.begin(), classes.end());
    classes.erase(std::unique(classes.begin(), classes.end()), classes.end());
    Groups groups{std::vector<std::uint32_t>(image.num_boxes), std::vector<std::uint32_t>(classes.size())};
    for (std::size_t i = 0; i < image.num_boxes; ++i) {
        const auto found = std::lower_bound(classes.begin(), classes.end(), image.classes[i]);
        groups.of_box[i] = static_cast<std::uint32_t>(found - classes.begin());
        ++groups.sizes[groups.of_box[i]];
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

constexpr std::size_t sampled_boxes = 256;
constexpr std::size_t outermost_share = 64;  // one in so many at either end

// Where the boxes lie along an axis: the quantiles of a sample, widened by the share beyond them. The outermost boxes
// are not asked: a single one far away would put all others into one cell.
Range range_of(const Image& image, std::size_t axis) {
    std::vector<float> sample;
    const std::size_t step = image.num_boxes / sampled_boxes + 1;
    for (std::size_t i = 0; i < image.num_boxes; i += step) sample.push_back(image.boxes[i * 4 + axis]);
    if (sample.empty()) return {};
    const std::size_t beyond = sample.size() / outermost_share, last = sample.size() - 1 - beyond;
    std::sort(sample.begin(), sample.end());
    const double low = sample[beyond], high = sample[last];
    const double margin = (high - low) * static_cast<double>(beyond) / static_cast<double>(last - beyond + 1);
    return {low - margin, high + margin};
}

// Writes at most max_kept indices; returns how many.
std::size_t suppress(const Image& image, float max_iou, std::size_t max_kept, std::int64_t* indices) {
    const Groups groups = groups_of(image);
    KeptBoxes kept(groups.sizes, max_iou, range_of(image, 0), range_of(image, 1));
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
