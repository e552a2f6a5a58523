// The inner loops of preprocess, once a SIMD level.
// Lines: the rows between the two passes, float32; line 3 r + c is channel c of row r.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch.hpp"

namespace bowerbird {

// Readable values beyond the last pixel of a line, which blocks of a level and windows reach over; lines start at
// multiples of line_alignment values.
constexpr std::size_t line_padding = 32, line_alignment = 16;

// A block of columns visits the rows of many outputs, each in a page of its own: more streams than the processor's
// prefetcher follows. So each visit fetches this far along its row.
constexpr std::size_t bytes_ahead = 256;

// A row of the picture, and its weights in two rows of the output.
struct Visit {
    const std::uint8_t* row;
    float here;  // in the row that is being summed
    float next;  // in the row after it
};

struct BlendTask {
    const Visit* visits;          // of the first row, then of the second, ...
    const std::uint32_t* counts;  // (rows), visits of each
    std::size_t rows;
    std::size_t width;   // pixels of a visited row
    float* carry;        // 3 lines; what earlier visits gave to the first row; left: what these give to the row after
    float* lines;        // 3 rows lines
    std::size_t stride;  // values from a line to the next, >= width + line_padding, aligned
};

struct ResampleTask {
    const float* lines;
    std::size_t stride;
    std::size_t rows;
    const std::uint32_t* begins;  // the steps, as LaneSteps has them
    const std::uint32_t* bases;
    const std::int32_t* indices;
    const float* here;
    const float* next;
    std::size_t width;  // outputs of a line
    float scale[3];     // by input channel
    float offset[3];    // by input channel
    float* planes[3];   // by input channel: the first row; the next is width values on
};

// What the steps of a level look like.
struct LaneShape {
    std::size_t lanes;
    std::size_t window;     // inputs in reach of a step, at most line_padding
    std::size_t alignment;  // where windows start: a multiple of this
};

struct PreprocessLoops {
    LaneShape shape;

    // Vertical pass: each row is carry + sum of its visits' here * row; bytes become one float32 line a channel.
    void (*blend)(const BlendTask& task);

    // Horizontal pass: value x of a line is the sum of what steps add to it, then * scale + offset.
    void (*resample)(const ResampleTask& task);
};

BOWERBIRD_LOOPS(PreprocessLoops, preprocess_loops)

}  // namespace bowerbird
