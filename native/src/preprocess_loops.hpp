// The inner loops of preprocess, once a SIMD level.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch.hpp"

namespace bowerbird {

// One output row of the horizontal pass: value x is sum over t of weights[x * taps + t] * row[3 * (starts[x] + t) + c].
struct RowTask {
    const float* row;  // 3 values a pixel, and 4 readable values beyond the last pixel any tap reads
    const std::uint32_t* starts;
    const float* weights;
    std::size_t taps;
    std::size_t width;
    float scale[3];    // by input channel
    float offset[3];   // by input channel
    float* planes[3];  // by input channel
};

struct PreprocessLoops {
    // out[i] = sum over t of weights[t] * rows[t][i].
    void (*blend_rows)(const std::uint8_t* const* rows, const float* weights, std::size_t taps, std::size_t count,
                       float* out);

    // planes[c][x] = value (x, c) * scale[c] + offset[c].
    void (*resample_row)(const RowTask& task);
};

BOWERBIRD_LOOPS(PreprocessLoops, preprocess_loops)

}  // namespace bowerbird
