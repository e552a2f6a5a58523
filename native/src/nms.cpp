// Boxes are taken best first; each is tested against the boxes of its class kept so far and leaves at the first hit.
// Kept boxes are few, so this is far less work than the full matrix of pairs.
// Legend: N boxes.
#include "bowerbird/nms.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <unordered_map>
#include <utility>
#include <vector>

#include "nms_loops.hpp"
#include "parallel.hpp"

namespace bowerbird {
namespace {

constexpr std::size_t padding = 16;  // lanes of the widest loop
constexpr int digit_bits = 11;       // three passes over the 32 bits of a score
constexpr std::size_t digits = std::size_t{1} << digit_bits;

struct Ranked {
    std::uint32_t rank;  // smaller is better
    std::uint32_t index;
};

// An integer that orders like the score, best first; both zeros are one.
std::uint32_t rank_of(float score) {
    const auto bits = std::bit_cast<std::uint32_t>(score + 0.0F);
    return (bits & 0x80000000U) != 0 ? bits : ~bits & 0x7FFFFFFFU;
}

// One stable pass of a radix sort.
void sort_by_digit(const std::vector<Ranked>& from, std::vector<Ranked>& to, int shift) {
    std::array<std::uint32_t, digits> starts{};
    for (const Ranked& box : from) ++starts[box.rank >> shift & (digits - 1)];
    std::uint32_t sum = 0;
    for (std::uint32_t& start : starts) sum += std::exchange(start, sum);
    for (const Ranked& box : from) to[starts[box.rank >> shift & (digits - 1)]++] = box;
}

// All boxes, best score first, ties by index: the passes are stable and the input is in index order.
std::vector<Ranked> best_first(const NmsRequest& request) {
    std::vector<Ranked> boxes(request.num_boxes), spare(request.num_boxes);
    for (std::size_t i = 0; i < boxes.size(); ++i) {
        boxes[i] = {rank_of(request.scores[i]), static_cast<std::uint32_t>(i)};
    }
    sort_by_digit(boxes, spare, 0);
    sort_by_digit(spare, boxes, digit_bits);
    sort_by_digit(boxes, spare, 2 * digit_bits);
    return spare;
}

Box box_at(const float* boxes, std::size_t index) {
    const float* corner = boxes + index * 4;
    const float width = std::max(corner[2] - corner[0], 0.0F);
    const float height = std::max(corner[3] - corner[1], 0.0F);
    return {corner[0], corner[1], corner[2], corner[3], width * height};
}

// The classes as consecutive numbers in order of appearance, and how many boxes each has.
struct Classes {
    std::vector<std::uint32_t> of_box;
    std::vector<std::size_t> sizes;

    explicit Classes(const NmsRequest& request) : of_box(request.num_boxes) {
        if (request.classes == nullptr) {
            sizes.assign(1, request.num_boxes);
            return;
        }
        std::unordered_map<std::int64_t, std::uint32_t> numbers;
        for (std::size_t i = 0; i < request.num_boxes; ++i) {
            const auto next = static_cast<std::uint32_t>(sizes.size());
            const auto [entry, is_new] = numbers.try_emplace(request.classes[i], next);
            if (is_new) sizes.push_back(0);
            of_box[i] = entry->second;
            ++sizes[entry->second];
        }
    }
};

// The kept boxes as columns, one stretch a class, each with room for the padding that the loops read. What has not been
// written is an empty box at the origin, which overlaps nothing.
class KeptByClass {
public:
    explicit KeptByClass(const std::vector<std::size_t>& sizes) : counts_(sizes.size()) {
        for (const std::size_t size : sizes) {
            starts_.push_back(stride_);
            stride_ += size + padding;
        }
        values_.resize(5 * stride_);
    }

    void add(std::uint32_t class_number, const Box& box) {
        float* slot = values_.data() + starts_[class_number] + counts_[class_number]++;
        for (const float value : {box.x_min, box.y_min, box.x_max, box.y_max, box.area}) {
            *slot = value;
            slot += stride_;
        }
    }

    KeptBoxes of(std::uint32_t class_number) const {
        const float* values = values_.data() + starts_[class_number];
        return {values,
                values + stride_,
                values + 2 * stride_,
                values + 3 * stride_,
                values + 4 * stride_,
                counts_[class_number]};
    }

private:
    std::size_t stride_ = 0;
    std::vector<std::size_t> starts_, counts_;
    std::vector<float> values_;
};

// One image: the first M survivors.
std::vector<std::int64_t> survivors_of(const NmsRequest& request) {
    const auto overlaps_any = nms_loops().overlaps_any;
    const Classes classes(request);
    KeptByClass kept(classes.sizes);
    std::vector<std::int64_t> survivors;
    for (const Ranked& ranked : best_first(request)) {
        if (survivors.size() == request.max_kept) break;
        const std::uint32_t class_number = classes.of_box[ranked.index];
        const Box box = box_at(request.boxes, ranked.index);
        if (overlaps_any(kept.of(class_number), box, request.max_iou)) continue;
        kept.add(class_number, box);
        survivors.push_back(ranked.index);
    }
    return survivors;
}

NmsRequest image_of(const NmsRequest& request, std::size_t image) {
    NmsRequest alone = request;
    const std::size_t first = image * request.num_boxes;
    alone.boxes += first * 4;
    alone.scores += first;
    if (request.classes != nullptr) alone.classes += first;
    if (request.counts != nullptr) alone.num_boxes = static_cast<std::size_t>(request.counts[image]);
    return alone;
}

}  // namespace

void nms(const NmsRequest& request, std::int64_t* indices, std::int32_t* counts) {
    parallel_for(request.num_images, request.num_threads, [&](std::size_t image) {
        const std::vector<std::int64_t> survivors = survivors_of(image_of(request, image));
        std::int64_t* row = indices + image * request.max_kept;
        std::fill(std::copy(survivors.begin(), survivors.end(), row), row + request.max_kept, -1);
        counts[image] = static_cast<std::int32_t>(survivors.size());
    });
}

}  // namespace bowerbird
