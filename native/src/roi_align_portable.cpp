#include "roi_align_loops.hpp"

namespace bowerbird::portable {
namespace {

void pack(const PackTask& task) {
    float* cell = task.cells;
    for (std::size_t y = 0; y < task.rows; ++y) {
        const float* row = task.features + static_cast<std::ptrdiff_t>(y) * task.row_stride;
        for (std::size_t x = 0; x < task.columns; ++x, cell += channel_block) {
            const float* pixel = row + static_cast<std::ptrdiff_t>(x) * task.column_stride;
            for (std::size_t c = 0; c < channel_block; ++c) {
                cell[c] = c < task.channels ? pixel[static_cast<std::ptrdiff_t>(c) * task.channel_stride] : 0.0F;
            }
        }
    }
}

void add(float* sums, const float* cell, float weight) {
    for (std::size_t c = 0; c < channel_block; ++c) sums[c] += weight * cell[c];
}

// Bin row i of every column.
void blend_rows(const AlignTask& task, std::size_t i) {
    for (std::size_t n = 0; n < task.columns * channel_block; ++n) task.blended[n] = 0.0F;
    const BinTaps& taps = task.vertical;
    for (std::size_t t = taps.begins[i]; t < taps.begins[i + 1]; ++t) {
        const std::size_t first = static_cast<std::size_t>(taps.indices[t]) * task.row_cells + task.first_column;
        for (std::size_t x = 0; x < task.columns; ++x) {
            add(task.blended + x * channel_block, task.cells + (first + x) * channel_block, taps.weights[t]);
        }
    }
}

void align(const AlignTask& task) {
    const BinTaps& taps = task.horizontal;
    const std::size_t bins = task.vertical.bins * taps.bins;
    for (std::size_t i = 0; i < task.vertical.bins; ++i) {
        blend_rows(task, i);
        for (std::size_t j = 0; j < taps.bins; ++j) {
            float sums[channel_block] = {};
            for (std::size_t t = taps.begins[j]; t < taps.begins[j + 1]; ++t) {
                const std::size_t x = static_cast<std::size_t>(taps.indices[t]) - task.first_column;
                add(sums, task.blended + x * channel_block, taps.weights[t]);
            }
            for (std::size_t c = 0; c < task.channels; ++c) task.out[c * bins + i * taps.bins + j] = sums[c];
        }
    }
}

}  // namespace

const RoiAlignLoops roi_align_loops{&pack, &align};

}  // namespace bowerbird::portable
