#include <immintrin.h>

#include "roi_align_loops.hpp"

namespace bowerbird::avx2 {
namespace {

static_assert(channel_block == 16);

struct Cell {
    __m256 low, high;
};

Cell zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
Cell load(const float* cell) { return {_mm256_load_ps(cell), _mm256_load_ps(cell + 8)}; }

void store(float* out, const Cell& cell) {
    _mm256_store_ps(out, cell.low);
    _mm256_store_ps(out + 8, cell.high);
}

void add(Cell& sum, const float* cell, __m256 weight) {
    const Cell other = load(cell);
    sum.low = _mm256_fmadd_ps(weight, other.low, sum.low);
    sum.high = _mm256_fmadd_ps(weight, other.high, sum.high);
}

// Rows become columns; in registers, so it must not become a call.
[[gnu::always_inline]] inline void transpose(__m256 (&m)[8]) {
    __m256 t[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(m[i], m[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(m[i], m[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        m[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        m[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xEE);
        m[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        m[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
    }
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm256_permute2f128_ps(m[i], m[i + 4], 0x20);
        t[i + 4] = _mm256_permute2f128_ps(m[i], m[i + 4], 0x31);
    }
    for (int i = 0; i < 8; ++i) m[i] = t[i];
}

void pack_channels_last(const PackTask& task) {
    float* cell = task.cells;
    for (std::size_t y = 0; y < task.rows; ++y) {
        const float* pixel = task.features + static_cast<std::ptrdiff_t>(y) * task.row_stride;
        for (std::size_t x = 0; x < task.columns; ++x, pixel += task.column_stride, cell += channel_block) {
            store(cell, {_mm256_loadu_ps(pixel), _mm256_loadu_ps(pixel + 8)});
        }
    }
}

// Eight pixels of all channels from column x of a row on.
void pack_pixels(const PackTask& task, const float* row, std::size_t x, float* cells) {
    for (std::size_t first = 0; first < channel_block; first += 8) {
        __m256 pixels[8];
        for (std::size_t c = 0; c < 8; ++c) {
            pixels[c] = _mm256_loadu_ps(row + static_cast<std::ptrdiff_t>(first + c) * task.channel_stride + x);
        }
        transpose(pixels);
        for (std::size_t i = 0; i < 8; ++i) _mm256_store_ps(cells + i * channel_block + first, pixels[i]);
    }
}

void pack_channels_first(const PackTask& task) {
    for (std::size_t y = 0; y < task.rows; ++y) {
        const float* row = task.features + static_cast<std::ptrdiff_t>(y) * task.row_stride;
        float* cells = task.cells + y * task.columns * channel_block;
        const std::size_t last = task.columns - 8;  // may overlap the eight before it, with the same values
        for (std::size_t x = 0; x < last; x += 8) pack_pixels(task, row, x, cells + x * channel_block);
        pack_pixels(task, row, last, cells + last * channel_block);
    }
}

void pack(const PackTask& task) {
    const bool whole = task.channels == channel_block;
    if (whole && task.channel_stride == 1) return pack_channels_last(task);
    if (whole && task.column_stride == 1 && task.columns >= 8) return pack_channels_first(task);
    portable::roi_align_loops.pack(task);
}

// Bin row i of `count` columns from x on: each weight is loaded once for all of them.
template <std::size_t count>
void blend_columns(const AlignTask& task, std::size_t i, std::size_t x) {
    const BinTaps& taps = task.vertical;
    Cell sums[count];
    for (Cell& sum : sums) sum = zero();
    for (std::size_t t = taps.begins[i]; t < taps.begins[i + 1]; ++t) {
        const __m256 weight = _mm256_set1_ps(taps.weights[t]);
        const std::size_t first = static_cast<std::size_t>(taps.indices[t]) * task.row_cells + task.first_column + x;
        for (std::size_t n = 0; n < count; ++n) add(sums[n], task.cells + (first + n) * channel_block, weight);
    }
    for (std::size_t n = 0; n < count; ++n) store(task.blended + (x + n) * channel_block, sums[n]);
}

void blend_rows(const AlignTask& task, std::size_t i) {
    std::size_t x = 0;
    for (; x + 4 <= task.columns; x += 4) blend_columns<4>(task, i, x);
    for (; x < task.columns; ++x) blend_columns<1>(task, i, x);
}

void sum_columns(const AlignTask& task, float* bins) {
    const BinTaps& taps = task.horizontal;
    for (std::size_t j = 0; j < taps.bins; ++j) {
        Cell sum = zero();
        for (std::size_t t = taps.begins[j]; t < taps.begins[j + 1]; ++t) {
            const std::size_t x = static_cast<std::size_t>(taps.indices[t]) - task.first_column;
            add(sum, task.blended + x * channel_block, _mm256_set1_ps(taps.weights[t]));
        }
        store(bins + j * channel_block, sum);
    }
}

// To memory that nobody reads soon: whole lines go past the caches, which plain stores would fetch first. The fence lets
// the next thread that is told of them find them.
void stream(const float* values, std::size_t count, float* out) {
    std::size_t i = 0;
    for (; i < count && reinterpret_cast<std::uintptr_t>(out + i) % 64 != 0; ++i) out[i] = values[i];
    for (; i + 16 <= count; i += 16) {
        _mm256_stream_ps(out + i, _mm256_loadu_ps(values + i));
        _mm256_stream_ps(out + i + 8, _mm256_loadu_ps(values + i + 8));
    }
    for (; i < count; ++i) out[i] = values[i];
    _mm_sfence();
}

// (bins, channel_block) to (channels, bins).
void store_bins(const AlignTask& task, std::size_t bins) {
    const __m256i position = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    float* out = task.streams ? task.turned : task.out;
    for (std::size_t first = 0; first < bins; first += 8) {
        const std::size_t left = bins - first < 8 ? bins - first : 8;
        const __m256i valid = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(left)), position);
        for (std::size_t half = 0; half < task.channels; half += 8) {
            __m256 values[8];
            for (std::size_t i = 0; i < 8; ++i) {
                values[i] = _mm256_load_ps(task.bins + (first + i) * channel_block + half);
            }
            transpose(values);
            for (std::size_t c = half; c < task.channels && c < half + 8; ++c) {
                _mm256_maskstore_ps(out + c * bins + first, valid, values[c - half]);
            }
        }
    }
    if (task.streams) stream(task.turned, task.channels * bins, task.out);
}

void align(const AlignTask& task) {
    for (std::size_t i = 0; i < task.vertical.bins; ++i) {
        blend_rows(task, i);
        sum_columns(task, task.bins + i * task.horizontal.bins * channel_block);
    }
    store_bins(task, task.vertical.bins * task.horizontal.bins);
}

}  // namespace

const RoiAlignLoops roi_align_loops{&pack, &align};

}  // namespace bowerbird::avx2
