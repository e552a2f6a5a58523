// The inner loops that exist once a SIMD level, and the table that picks one.
//
// A file that is compiled for AVX2 or AVX-512 includes this header and <immintrin.h>, and uses no inline function or
// template of the standard library: the linker keeps one copy of those, and it must be the portable one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bowerbird {

// Rows of one candidate list, scored against one query.
struct DotTask {
    const void* rows;         // (N, dimension), element type fixed by the kernel
    std::size_t dimension;    // D
    const float* query;       // D values, then zeros up to a multiple of 64 values
    const std::int64_t* ids;  // valid row ids
    std::size_t count;
};

// Boxes kept so far as columns; padded with empty boxes to a multiple of 16.
struct KeptBoxes {
    const float* x_min;
    const float* y_min;
    const float* x_max;
    const float* y_max;
    const float* area;
    std::size_t count;  // without the padding
};

struct Box {
    float x_min, y_min, x_max, y_max, area;
};

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

// distances[i] = number of bits in which code i differs from the query; a code has `words` words of 64 bits.
using HammingKernel = void (*)(const std::uint8_t* codes, std::size_t count, std::size_t words,
                               const std::uint8_t* query, std::uint16_t* distances);

// Positions i, ascending, with distances[i] < limit and bit i of mask set (null: all set); returns how many.
// The mask has whole 64-bit words, zero beyond count.
using BelowKernel = std::size_t (*)(const std::uint16_t* distances, std::size_t count, std::uint16_t limit,
                                    const std::uint64_t* mask, std::uint16_t* positions);

// scores[i] = inner product of row ids[i] and the query; equal rows get equal scores.
using DotKernel = void (*)(const DotTask& task, float* scores);

// True if a kept box has inter > max_iou * union with the box.
using OverlapKernel = bool (*)(const KeptBoxes& kept, const Box& box, float max_iou);

// out[i] = sum over t of weights[t] * rows[t][i].
using BlendKernel = void (*)(const std::uint8_t* const* rows, const float* weights, std::size_t taps,
                             std::size_t count, float* out);

// planes[c][x] = value (x, c) * scale[c] + offset[c].
using ResampleKernel = void (*)(const RowTask& task);

struct Kernels {
    HammingKernel hamming;
    BelowKernel below;
    DotKernel dot_float32;
    DotKernel dot_float16;
    OverlapKernel overlaps_any;
    BlendKernel blend_rows;
    ResampleKernel resample_row;
};

// The table of the level in use.
const Kernels& kernels();

// One declaration of every kernel a level, defined in <op>_<level>.cpp.
#define BOWERBIRD_DECLARE_KERNELS(level)                                                                             \
    namespace level {                                                                                                \
    void hamming(const std::uint8_t*, std::size_t, std::size_t, const std::uint8_t*, std::uint16_t*);                \
    std::size_t below(const std::uint16_t*, std::size_t, std::uint16_t, const std::uint64_t*, std::uint16_t*);       \
    void dot_float32(const DotTask&, float*);                                                                        \
    void dot_float16(const DotTask&, float*);                                                                        \
    bool overlaps_any(const KeptBoxes&, const Box&, float);                                                          \
    void blend_rows(const std::uint8_t* const*, const float*, std::size_t, std::size_t, float*);                     \
    void resample_row(const RowTask&);                                                                               \
    inline constexpr Kernels table{hamming,      below,      dot_float32, dot_float16,                               \
                                   overlaps_any, blend_rows, resample_row};                                          \
    }
BOWERBIRD_DECLARE_KERNELS(portable)
BOWERBIRD_DECLARE_KERNELS(avx2)
BOWERBIRD_DECLARE_KERNELS(avx512)
#undef BOWERBIRD_DECLARE_KERNELS

}  // namespace bowerbird
