// Where the pixels of a resized picture come from: one direction at a time, the weights of each output.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bowerbird/preprocess.hpp"
#include "preprocess_loops.hpp"

namespace bowerbird {

// One direction of a resize. Output i lies around (first + i + 0.5) * ratio, in input pixels.
struct Axis {
    std::size_t inputs;
    std::size_t outputs;
    std::size_t first;  // outputs cut off before the first one
    double ratio;       // input pixels an output pixel
};

struct Axes {
    Axis vertical, horizontal;
};

// What the request makes of this picture. With a shorter side the longer one is rounded down and the cut starts at half
// of what is left over, half to even: torchvision's Resize and CenterCrop.
Axes axes_of(const PixelView& image, const PreprocessRequest& request);

// The inputs [first, end) of one output and their weights, which sum to one.
struct Taps {
    std::size_t first;
    std::size_t end;
    const float* weights;

    // Zero for an input that is not one of them.
    float weight(std::size_t input) const { return first <= input && input < end ? weights[input - first] : 0.0F; }
};

class Filter {
public:
    Filter(const Axis& axis, Resize resize);

    std::size_t outputs() const { return firsts_.size(); }
    Taps taps(std::size_t output) const {
        const std::size_t begin = begins_[output], count = begins_[output + 1] - begin;
        return {firsts_[output], firsts_[output] + count, weights_.data() + begin};
    }

    // True if no input has a part in more than two outputs, and these are neighbours: so for every reduction.
    bool touches_two() const;

private:
    void settle(std::size_t output, std::size_t from, std::size_t to);

    std::vector<std::uint32_t> firsts_;  // (outputs)
    std::vector<std::size_t> begins_;    // (outputs + 1), into weights_
    std::vector<float> weights_;
};

// A filter as registers want it: outputs in groups of one a lane. A step reads a window of inputs and picks one of them
// for each lane; `here` times that goes to the lane's output and `next` times to the output one lane up: an input of a
// reduction has a part in two neighbours, and is picked once. A lane that a step has nothing for has weights of zero.
struct LaneSteps {
    std::vector<std::uint32_t> begins;  // (groups + 1), into bases
    std::vector<std::uint32_t> bases;   // (steps), first input of the window, less `origin`
    std::vector<std::int32_t> indices;  // (steps, lanes), within the window
    std::vector<float> here, next;      // (steps, lanes)

    LaneSteps(const Filter& filter, std::size_t origin, const LaneShape& shape);

private:
    void append_group(const Filter& filter, std::size_t first, std::size_t origin, const LaneShape& shape,
                      bool shares);
};

}  // namespace bowerbird
