#include "resize_filter.hpp"

#include <algorithm>
#include <cmath>

namespace bowerbird {
namespace {

// Weights this small beside the largest are rounding of a zero; float32 sums of pixel values would lose them anyway.
constexpr float negligible = 1e-7F;

Axis whole(std::size_t inputs, std::size_t outputs) {
    return {inputs, outputs, 0, static_cast<double>(inputs) / static_cast<double>(outputs)};
}

Axis centre_cut(std::size_t inputs, std::size_t resized, std::size_t outputs) {
    const double left_over = static_cast<double>(resized - outputs);
    return {inputs, outputs, static_cast<std::size_t>(std::nearbyint(left_over / 2)),
            static_cast<double>(inputs) / static_cast<double>(resized)};
}

// Weights of inputs [from, to), the largest about one; the outermost may be zero or less.
void write_triangle(std::size_t from, std::size_t to, double center, double support, float* out) {
    const double slope = 1.0 / support;
    for (std::size_t i = from; i < to; ++i) {
        *out++ = static_cast<float>(1.0 - std::abs(static_cast<double>(i) + 0.5 - center) * slope);
    }
}

void write_box(std::size_t from, std::size_t to, double center, double support, float* out) {
    const double low = center - support, high = center + support, scale = 1.0 / std::min(high - low, 1.0);
    for (std::size_t i = from; i < to; ++i) {
        const auto pixel = static_cast<double>(i);
        *out++ = static_cast<float>((std::min(pixel + 1, high) - std::max(pixel, low)) * scale);
    }
}

}  // namespace

Axes axes_of(const PixelView& image, const PreprocessRequest& request) {
    if (request.shorter_side == 0) return {whole(image.height, request.height), whole(image.width, request.width)};
    const std::size_t shorter = std::min(image.height, image.width);
    return {centre_cut(image.height, image.height * request.shorter_side / shorter, request.height),
            centre_cut(image.width, image.width * request.shorter_side / shorter, request.width)};
}

Filter::Filter(const Axis& axis, Resize resize) : firsts_(axis.outputs), begins_(axis.outputs + 1) {
    const double support = resize == Resize::area ? axis.ratio / 2 : std::max(axis.ratio, 1.0);
    weights_.resize(axis.outputs * std::min(static_cast<std::size_t>(2 * support) + 2, axis.inputs));
    for (std::size_t i = 0; i < axis.outputs; ++i) {
        const double center = (static_cast<double>(axis.first + i) + 0.5) * axis.ratio;
        const auto from = static_cast<std::size_t>(std::max(center - support, 0.0));
        const auto to = std::min(static_cast<std::size_t>(center + support) + 1, axis.inputs);
        (resize == Resize::area ? write_box : write_triangle)(from, to, center, support, weights_.data() + begins_[i]);
        settle(i, from, to);
    }
}

// Drop what is no weight at either end, and let the rest sum to one.
void Filter::settle(std::size_t output, std::size_t from, std::size_t to) {
    float* weights = weights_.data() + begins_[output];
    std::size_t first = 0, end = to - from;
    while (weights[first] < negligible) ++first;
    while (weights[end - 1] < negligible) --end;
    double sum = 0.0;
    for (std::size_t i = first; i < end; ++i) sum += static_cast<double>(weights[i]);
    const auto scale = static_cast<float>(1.0 / sum);
    for (std::size_t i = first; i < end; ++i) weights[i - first] = weights[i] * scale;
    firsts_[output] = static_cast<std::uint32_t>(from + first);
    begins_[output + 1] = begins_[output] + end - first;
}

bool Filter::touches_two() const {
    for (std::size_t i = 0; i + 2 < outputs(); ++i) {
        if (taps(i + 2).first < taps(i).end) return false;
    }
    return true;
}

LaneSteps::LaneSteps(const Filter& filter, std::size_t origin, const LaneShape& shape) {
    begins.push_back(0);
    const bool shares = filter.touches_two();
    for (std::size_t first = 0; first < filter.outputs(); first += shape.lanes) {
        append_group(filter, first, origin, shape, shares);
        begins.push_back(static_cast<std::uint32_t>(bases.size()));
    }
}

// Greedy: the window starts at the first input that a lane still waits for, and serves every lane whose next input is
// in reach. Inputs of a lane ascend, so that its sums do not depend on the windows.
void LaneSteps::append_group(const Filter& filter, std::size_t first, std::size_t origin, const LaneShape& shape,
                             bool shares) {
    struct Lane {
        std::size_t input, end;  // the next input to pick; none from end on
        Taps here, next;
    };
    std::vector<Lane> group;
    group.reserve(shape.lanes);
    for (std::size_t i = first; i < std::min(first + shape.lanes, filter.outputs()); ++i) {
        const Taps taps = filter.taps(i);
        const std::size_t seen = shares && i > 0 ? std::max(filter.taps(i - 1).end, taps.first) : taps.first;
        group.push_back({seen, taps.end, taps, shares && i + 1 < filter.outputs() ? filter.taps(i + 1) : Taps{}});
    }
    for (;;) {
        std::size_t base = SIZE_MAX;
        for (const Lane& lane : group) base = std::min(base, lane.input < lane.end ? lane.input : SIZE_MAX);
        if (base == SIZE_MAX) return;
        base -= (base - origin) % shape.alignment;
        const std::size_t step = bases.size() * shape.lanes;
        bases.push_back(static_cast<std::uint32_t>(base - origin));
        indices.resize(step + shape.lanes);
        here.resize(step + shape.lanes);
        next.resize(step + shape.lanes);
        for (std::size_t i = 0; i < group.size(); ++i) {
            Lane& lane = group[i];
            if (lane.input >= std::min(lane.end, base + shape.window)) continue;
            indices[step + i] = static_cast<std::int32_t>(lane.input - base);
            here[step + i] = lane.here.weights[lane.input - lane.here.first];
            next[step + i] = lane.next.weight(lane.input);
            ++lane.input;
        }
    }
}

}  // namespace bowerbird
