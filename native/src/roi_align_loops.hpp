// The inner loops of roi_align, once a SIMD level.
// A cell is one pixel of the map with a block of channels side by side.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch.hpp"

namespace bowerbird {

constexpr std::size_t channel_block = 16;  // a cache line

struct PackTask {
    const float* features;  // of the first channel, row and column
    std::ptrdiff_t channel_stride, row_stride, column_stride;  // values
    std::size_t channels;                                      // <= channel_block
    std::size_t rows, columns;
    float* cells;  // (rows, columns, channel_block)
};

// One direction of a box: bin i is the sum of weights[t] * line indices[t] for t in [begins[i], begins[i + 1]).
struct BinTaps {
    const std::uint32_t* begins;  // (bins + 1)
    const std::int32_t* indices;
    const float* weights;
    std::size_t bins;
};

struct AlignTask {
    const float* cells;
    std::size_t row_cells;               // cells from one row to the next
    std::size_t first_column, columns;   // that the box has taps in
    BinTaps vertical, horizontal;
    float* blended;  // (columns, channel_block), scratch
    float* bins;     // (vertical bins x horizontal bins, rounded up to channel_block, channel_block), scratch
    std::size_t channels;
    float* out;     // (channels, vertical bins, horizontal bins)
    float* turned;  // as out, scratch
    bool streams;   // out is better written past the caches
};

struct RoiAlignLoops {
    // Lay pixels out as cells; channels beyond the last are zero.
    void (*pack)(const PackTask& task);

    // All bins of one box: rows are blended first, then columns.
    void (*align)(const AlignTask& task);
};

BOWERBIRD_LOOPS(RoiAlignLoops, roi_align_loops)

}  // namespace bowerbird
