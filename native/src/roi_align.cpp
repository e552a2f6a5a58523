// The average of bilinear samples on a grid is separable: out = Wy F Wx for each box and channel (training of the
// detector computes it so, as two matrix products). Here Wy and Wx are lists of the few rows and columns a bin touches.
//
// A block of sixteen channels of the map is packed first, pixel by pixel: one cache line a pixel whatever the layout of
// the map, 160 KB for a map of 50 x 50, so that all boxes find it in the second-level cache, with channels as lanes. A
// box then blends its rows and after them its columns; sixteen channels of its output lie together, and are stored
// whole, transposed in registers, and past the caches where the result is larger than they are.
//
// Floor, for 1,000 boxes of 7 x 7 bins and 256 channels: 50 MB are written once. A box of 20 x 20 pixels at two samples
// a bin and direction takes 7 x (20 x 3.5 + 7 x 3.5) products a channel: 10 M instructions of sixteen in all, half the
// cycles.
#include "bowerbird/roi_align.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "parallel.hpp"
#include "roi_align_loops.hpp"

namespace bowerbird {
namespace {

constexpr std::size_t tasks_a_thread = 4, fewest_boxes_a_task = 16;

// A result beyond this many bytes leaves the caches before it is read. A block of channels is a few pages of it at a
// time, too short for the prefetcher: plain stores wait for each line, longer than all sums take.
constexpr std::size_t most_cached_bytes = std::size_t{4} << 20;

// Rows or columns of the map.
struct Span {
    std::size_t first = 0, end = 0;

    std::size_t length() const { return end - first; }
    bool empty() const { return first >= end; }
    void cover(const Span& other) {
        if (other.empty()) return;
        *this = empty() ? other : Span{std::min(first, other.first), std::max(end, other.end)};
    }
};

// What one direction of a box is made of. The sample that lies at p weighs the two lines around it.
class Taps {
public:
    // Bins of one side of a box, which begins at `start` and is `length` long, in pixels of the map.
    Taps(double start, double length, std::size_t bins, std::size_t lines, std::size_t sampling_ratio)
        : lines_(lines), begins_{0} {
        const double bin = length / static_cast<double>(bins);
        const double samples = sampling_ratio == 0 ? std::ceil(bin) : static_cast<double>(sampling_ratio);
        for (std::size_t i = 0; i < bins; ++i) {
            if (samples > 0) add_bin(start + static_cast<double>(i) * bin, bin, samples);
            begins_.push_back(static_cast<std::uint32_t>(indices_.size()));
        }
    }

    const Span& span() const { return span_; }

    // Indices count from the first line that the box is packed with, or blended from.
    BinTaps bins() const { return {begins_.data(), indices_.data(), weights_.data(), begins_.size() - 1}; }

    void count_from(std::size_t first) {
        if (span_.empty()) return;
        for (std::int32_t& index : indices_) index -= static_cast<std::int32_t>(first);
        span_.first -= first;
        span_.end -= first;
    }

private:
    // However far the box reaches, only the samples that may lie within a pixel of the map are visited.
    void add_bin(double start, double bin, double samples) {
        const double step = bin / samples;
        double first = 0, count = samples;
        if (step > 0) {
            first = std::clamp(std::floor((-1 - start) / step - 1), 0.0, samples);
            count = std::min(samples - first, std::ceil(static_cast<double>(lines_ + 1) / step) + 4);
        }
        for (double s = 0; s < count; ++s) {
            const double sample = bin < 0 ? count - 1 - s : first + s;  // positions ascend
            add_sample(start + (sample + 0.5) * bin / samples, samples);
        }
    }

    void add_sample(double at, double samples) {
        const double last_line = static_cast<double>(lines_) - 1;
        if (at < -1 || at > last_line + 1) return;
        const double inside = std::clamp(at, 0.0, last_line), below = std::floor(inside);
        add(static_cast<std::int32_t>(below), static_cast<float>((1 - (inside - below)) / samples));
        add(static_cast<std::int32_t>(below) + 1, static_cast<float>((inside - below) / samples));
    }

    // Samples ascend, so a line that came before is one of the last two of its bin.
    void add(std::int32_t line, float weight) {
        if (weight == 0.0F) return;
        for (std::size_t i = indices_.size(); i-- > begins_.back() && i + 2 >= indices_.size();) {
            if (indices_[i] != line) continue;
            weights_[i] += weight;
            return;
        }
        indices_.push_back(line);
        weights_.push_back(weight);
        span_.cover({static_cast<std::size_t>(line), static_cast<std::size_t>(line) + 1});
    }

    std::size_t lines_;
    std::vector<std::uint32_t> begins_;
    std::vector<std::int32_t> indices_;
    std::vector<float> weights_;
    Span span_;
};

struct Box {
    std::size_t index;
    Taps vertical, horizontal;
};

Taps side_taps(const RoiAlignRequest& request, float low, float high, std::size_t bins, std::size_t lines) {
    const double shift = request.aligned ? 0.5 : 0.0;
    const double start = static_cast<double>(low) * request.spatial_scale - shift;
    const double length = static_cast<double>(high) * request.spatial_scale - shift - start;
    return {start, request.aligned ? length : std::max(length, 1.0), bins, lines, request.sampling_ratio};
}

Box box_taps(const RoiAlignRequest& request, std::size_t r) {
    const float* box = request.boxes + 4 * r;
    return {r, side_taps(request, box[1], box[3], request.height, request.shape[2]),
            side_taps(request, box[0], box[2], request.width, request.shape[3])};
}

// Boxes of one map that share packed pixels.
struct Group {
    std::size_t image;
    std::vector<Box> boxes;
    Span rows, columns;

    Group(std::size_t image_, std::vector<Box> boxes_) : image(image_), boxes(std::move(boxes_)) {
        for (const Box& box : boxes) {
            rows.cover(box.vertical.span());
            columns.cover(box.horizontal.span());
        }
        for (Box& box : boxes) {
            box.vertical.count_from(rows.first);
            box.horizontal.count_from(columns.first);
        }
    }
};

std::size_t area(const Box& box) { return box.vertical.span().length() * box.horizontal.span().length(); }

// One group where boxes overlap so much that all pixels they span are fewer than those of the boxes one by one; for a
// few small boxes on a large map, a group each.
void append_groups(std::size_t image, std::vector<Box> boxes, std::size_t most_boxes, std::vector<Group>& groups) {
    Span rows, columns;
    std::size_t areas = 0;
    for (const Box& box : boxes) {
        rows.cover(box.vertical.span());
        columns.cover(box.horizontal.span());
        areas += area(box);
    }
    const std::size_t size = areas < rows.length() * columns.length() ? 1 : most_boxes;
    for (std::size_t first = 0; first < boxes.size(); first += size) {
        const auto begin = boxes.begin() + static_cast<std::ptrdiff_t>(first);
        const auto count = static_cast<std::ptrdiff_t>(std::min(size, boxes.size() - first));
        groups.emplace_back(image, std::vector<Box>(std::make_move_iterator(begin),
                                                    std::make_move_iterator(begin + count)));
    }
}

// The boxes in the order of their maps. Takes memory by the boxes: a map that is broadcast may have any number of images.
std::vector<std::size_t> by_image(const RoiAlignRequest& request) {
    std::vector<std::size_t> order(request.num_boxes);
    for (std::size_t r = 0; r < request.num_boxes; ++r) {
        const std::int64_t image = request.images[r];
        if (image < 0 || image >= static_cast<std::int64_t>(request.shape[0])) {
            throw std::invalid_argument("images: expected the index of one of " + std::to_string(request.shape[0]) +
                                        " maps, got " + std::to_string(image) + " at position " + std::to_string(r));
        }
        order[r] = r;
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return request.images[a] < request.images[b]; });
    return order;
}

std::vector<Group> grouped(const RoiAlignRequest& request, std::size_t channel_blocks) {
    const std::size_t wanted = tasks_a_thread * request.num_threads, parts = (wanted - 1) / channel_blocks + 1;
    const std::size_t most_boxes =
        request.num_threads == 1 ? request.num_boxes : std::max(request.num_boxes / parts + 1, fewest_boxes_a_task);
    std::vector<Group> groups;
    std::vector<Box> boxes;  // of one image
    const std::vector<std::size_t> order = by_image(request);
    for (std::size_t i = 0; i < order.size(); ++i) {
        boxes.push_back(box_taps(request, order[i]));
        const std::int64_t image = request.images[order[i]];
        if (i + 1 < order.size() && request.images[order[i + 1]] == image) continue;
        append_groups(static_cast<std::size_t>(image), std::exchange(boxes, {}), most_boxes, groups);
    }
    return groups;
}

// Memory of cells, each on a cache line of its own.
class Cells {
public:
    float* at_least(std::size_t cells) {
        if (cells > size_) {
            memory_ = std::make_unique_for_overwrite<Line[]>(cells);
            size_ = cells;
        }
        return memory_[0].values;
    }

private:
    struct alignas(64) Line {
        float values[channel_block];
    };

    std::unique_ptr<Line[]> memory_ = std::make_unique_for_overwrite<Line[]>(1);
    std::size_t size_ = 1;
};

// One thread's share: groups, one block of channels at a time.
class Worker {
public:
    Worker(const RoiAlignRequest& request, float* out) : request_(request), out_(out) {}

    void align(const Group& group, std::size_t first_channel) {
        const std::size_t channels = std::min(channel_block, request_.shape[1] - first_channel);
        const std::size_t bins = request_.height * request_.width;
        AlignTask task{};
        task.cells = pack(group, first_channel, channels);
        task.row_cells = group.columns.length();
        task.blended = blended_.at_least(group.columns.length());
        task.bins = bins_.at_least((bins + channel_block - 1) / channel_block * channel_block);
        task.turned = turned_.at_least(bins);
        task.channels = channels;
        task.streams = request_.num_boxes * request_.shape[1] * bins * sizeof(float) > most_cached_bytes;
        for (const Box& box : group.boxes) {
            task.first_column = box.horizontal.span().first;
            task.columns = box.horizontal.span().length();
            task.vertical = box.vertical.bins();
            task.horizontal = box.horizontal.bins();
            task.out = out_ + (box.index * request_.shape[1] + first_channel) * bins;
            roi_align_loops().align(task);
        }
    }

private:
    const float* pack(const Group& group, std::size_t first_channel, std::size_t channels) {
        const auto& [image, channel, row, column] = request_.strides;
        PackTask task{};
        task.features = request_.features + static_cast<std::ptrdiff_t>(group.image) * image +
                        static_cast<std::ptrdiff_t>(first_channel) * channel +
                        static_cast<std::ptrdiff_t>(group.rows.first) * row +
                        static_cast<std::ptrdiff_t>(group.columns.first) * column;
        task.channel_stride = channel;
        task.row_stride = row;
        task.column_stride = column;
        task.channels = channels;
        task.rows = group.rows.length();
        task.columns = group.columns.length();
        task.cells = cells_.at_least(task.rows * task.columns);
        roi_align_loops().pack(task);
        return task.cells;
    }

    const RoiAlignRequest& request_;
    float* out_;
    Cells cells_, blended_, bins_, turned_;
};

}  // namespace

void roi_align(const RoiAlignRequest& request, float* out) {
    const std::size_t blocks = (request.shape[1] + channel_block - 1) / channel_block;
    if (blocks == 0) return;
    const std::vector<Group> groups = grouped(request, blocks);
    const std::size_t tasks = groups.size() * blocks;
    std::atomic<std::size_t> next{0};
    parallel_for(std::min(request.num_threads, tasks), request.num_threads, [&](std::size_t) {
        Worker worker(request, out);
        for (std::size_t i; (i = next.fetch_add(1)) < tasks;) {
            worker.align(groups[i / blocks], i % blocks * channel_block);
        }
    });
}

}  // namespace bowerbird
