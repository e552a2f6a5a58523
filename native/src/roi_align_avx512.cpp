#include <immintrin.h>

#include "roi_align_loops.hpp"

namespace bowerbird::avx512 {
namespace {

static_assert(channel_block == 16);

__mmask16 first_lanes(std::size_t count) { return static_cast<__mmask16>(count < 16 ? (1U << count) - 1 : 0xFFFF); }

__m512d pairs(__m512 values) { return _mm512_castps_pd(values); }

// Rows become columns; in registers, so it must not become a call.
[[gnu::always_inline]] inline void transpose(__m512 (&m)[16]) {
    __m512 t[16];
    for (int i = 0; i < 16; i += 2) {  // two by two
        t[i] = _mm512_unpacklo_ps(m[i], m[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(m[i], m[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {  // four by four within 128 bits
        for (int half = 0; half < 2; ++half) {
            m[i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(pairs(t[i + half]), pairs(t[i + 2 + half])));
            m[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pairs(t[i + half]), pairs(t[i + 2 + half])));
        }
    }
    for (int i = 0; i < 4; ++i) {  // blocks of 128 bits, as a four by four matrix
        const __m512 a = _mm512_shuffle_f32x4(m[i], m[i + 4], 0x44), b = _mm512_shuffle_f32x4(m[i], m[i + 4], 0xEE);
        const __m512 c = _mm512_shuffle_f32x4(m[i + 8], m[i + 12], 0x44);
        const __m512 d = _mm512_shuffle_f32x4(m[i + 8], m[i + 12], 0xEE);
        t[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(a, c, 0xDD);
        t[i + 8] = _mm512_shuffle_f32x4(b, d, 0x88);
        t[i + 12] = _mm512_shuffle_f32x4(b, d, 0xDD);
    }
    for (int i = 0; i < 16; ++i) m[i] = t[i];
}

void pack_channels_last(const PackTask& task) {
    const __mmask16 valid = first_lanes(task.channels);
    float* cell = task.cells;
    for (std::size_t y = 0; y < task.rows; ++y) {
        const float* pixel = task.features + static_cast<std::ptrdiff_t>(y) * task.row_stride;
        for (std::size_t x = 0; x < task.columns; ++x, pixel += task.column_stride, cell += channel_block) {
            _mm512_store_ps(cell, _mm512_maskz_loadu_ps(valid, pixel));
        }
    }
}

void pack_channels_first(const PackTask& task) {
    for (std::size_t y = 0; y < task.rows; ++y) {
        const float* row = task.features + static_cast<std::ptrdiff_t>(y) * task.row_stride;
        for (std::size_t x = 0; x < task.columns; x += 16) {
            const std::size_t count = task.columns - x < 16 ? task.columns - x : 16;
            __m512 pixels[16];
            for (std::size_t c = 0; c < 16; ++c) {
                pixels[c] = _mm512_setzero_ps();
                if (c >= task.channels) continue;
                const float* plane = row + static_cast<std::ptrdiff_t>(c) * task.channel_stride;
                pixels[c] = _mm512_maskz_loadu_ps(first_lanes(count), plane + x);
            }
            transpose(pixels);
            float* cells = task.cells + (y * task.columns + x) * channel_block;
            for (std::size_t i = 0; i < count; ++i) _mm512_store_ps(cells + i * channel_block, pixels[i]);
        }
    }
}

void pack(const PackTask& task) {
    if (task.channel_stride == 1) return pack_channels_last(task);
    if (task.column_stride == 1) return pack_channels_first(task);
    portable::roi_align_loops.pack(task);
}

// Bin row i of `count` columns from x on: each weight is loaded once for all of them.
template <std::size_t count>
void blend_columns(const AlignTask& task, std::size_t i, std::size_t x) {
    const BinTaps& taps = task.vertical;
    __m512 sums[count];
    for (__m512& sum : sums) sum = _mm512_setzero_ps();
    for (std::size_t t = taps.begins[i]; t < taps.begins[i + 1]; ++t) {
        const __m512 weight = _mm512_set1_ps(taps.weights[t]);
        const std::size_t first = static_cast<std::size_t>(taps.indices[t]) * task.row_cells + task.first_column + x;
        for (std::size_t n = 0; n < count; ++n) {
            sums[n] = _mm512_fmadd_ps(weight, _mm512_load_ps(task.cells + (first + n) * channel_block), sums[n]);
        }
    }
    for (std::size_t n = 0; n < count; ++n) _mm512_store_ps(task.blended + (x + n) * channel_block, sums[n]);
}

void blend_rows(const AlignTask& task, std::size_t i) {
    std::size_t x = 0;
    for (; x + 8 <= task.columns; x += 8) blend_columns<8>(task, i, x);
    for (; x + 2 <= task.columns; x += 2) blend_columns<2>(task, i, x);
    if (x < task.columns) blend_columns<1>(task, i, x);
}

void sum_columns(const AlignTask& task, float* bins) {
    const BinTaps& taps = task.horizontal;
    for (std::size_t j = 0; j < taps.bins; ++j) {
        __m512 sum = _mm512_setzero_ps();
        for (std::size_t t = taps.begins[j]; t < taps.begins[j + 1]; ++t) {
            const std::size_t x = static_cast<std::size_t>(taps.indices[t]) - task.first_column;
            const __m512 cell = _mm512_load_ps(task.blended + x * channel_block);
            sum = _mm512_fmadd_ps(_mm512_set1_ps(taps.weights[t]), cell, sum);
        }
        _mm512_store_ps(bins + j * channel_block, sum);
    }
}

// To memory that nobody reads soon: whole lines go past the caches, which plain stores would fetch first. The fence lets
// the next thread that is told of them find them.
void stream(const float* values, std::size_t count, float* out) {
    const std::size_t to_line = -(reinterpret_cast<std::uintptr_t>(out) / sizeof(float)) % 16;
    std::size_t i = to_line < count ? to_line : count;
    _mm512_mask_storeu_ps(out, first_lanes(i), _mm512_maskz_loadu_ps(first_lanes(i), values));
    for (; i + 16 <= count; i += 16) _mm512_stream_ps(out + i, _mm512_loadu_ps(values + i));
    const __mmask16 rest = first_lanes(count - i);
    _mm512_mask_storeu_ps(out + i, rest, _mm512_maskz_loadu_ps(rest, values + i));
    _mm_sfence();
}

// (bins, channel_block) to (channels, bins).
void store_bins(const AlignTask& task, std::size_t bins) {
    float* out = task.streams ? task.turned : task.out;
    for (std::size_t first = 0; first < bins; first += 16) {
        const __mmask16 valid = first_lanes(bins - first);
        __m512 values[16];
        for (std::size_t i = 0; i < 16; ++i) values[i] = _mm512_load_ps(task.bins + (first + i) * channel_block);
        transpose(values);
        for (std::size_t c = 0; c < task.channels; ++c) {
            _mm512_mask_storeu_ps(out + c * bins + first, valid, values[c]);
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

}  // namespace bowerbird::avx512
