#include <immintrin.h>

#include "preprocess_loops.hpp"

namespace bowerbird::avx512 {
namespace {

constexpr std::size_t lanes = 16;

struct Pixels {
    __m512 channels[3];
};

Pixels zero() { return {{_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()}}; }

// Byte shuffle within 128 bits: channel c of four pixels, each widened to 32 bits.
__m512i channel_bytes(int c) {
    const auto at = [c](int pixel) { return static_cast<int>(0x80808000U) | (3 * pixel + c); };
    return _mm512_broadcast_i32x4(_mm_setr_epi32(at(0), at(1), at(2), at(3)));
}

// Sixteen pixels, one register a channel: 12 bytes to each 128 bits, then three shuffles there. That is four shuffles
// for 48 bytes; widening alone, with the channels left interleaved, takes three.
Pixels spread(__m512i bytes) {
    const __m512i quads = _mm512_setr_epi32(0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11);
    const __m512i four_each = _mm512_permutexvar_epi32(quads, bytes);
    Pixels pixels;
    for (int c = 0; c < 3; ++c) {
        pixels.channels[c] = _mm512_cvtepi32_ps(_mm512_shuffle_epi8(four_each, channel_bytes(c)));
    }
    return pixels;
}

void add(Pixels& sums, const Pixels& pixels, float weight) {
    for (std::size_t c = 0; c < 3; ++c) {
        sums.channels[c] = _mm512_fmadd_ps(_mm512_set1_ps(weight), pixels.channels[c], sums.channels[c]);
    }
}

void store(const Pixels& pixels, float* lines, std::size_t stride) {
    for (std::size_t c = 0; c < 3; ++c) _mm512_store_ps(lines + c * stride, pixels.channels[c]);
}

// Sixteen columns from x on. Only the `valid` bytes of a row are read where it ends within the 64 of a register.
template <bool row_ends>
void blend_columns(const BlendTask& task, std::size_t x, __mmask64 valid) {
    Pixels here = zero(), next = zero();
    for (std::size_t c = 0; c < 3; ++c) here.channels[c] = _mm512_load_ps(task.carry + c * task.stride + x);
    const Visit* visit = task.visits;
    for (std::size_t r = 0; r < task.rows; ++r) {
        for (const Visit* end = visit + task.counts[r]; visit < end; ++visit) {
            const std::uint8_t* bytes = visit->row + 3 * x;
            _mm_prefetch(reinterpret_cast<const char*>(bytes + bytes_ahead), _MM_HINT_T0);
            const Pixels pixels = spread(row_ends ? _mm512_maskz_loadu_epi8(valid, bytes) : _mm512_loadu_si512(bytes));
            add(here, pixels, visit->here);
            add(next, pixels, visit->next);
        }
        store(here, task.lines + 3 * r * task.stride + x, task.stride);
        here = next;
        next = zero();
    }
    store(here, task.carry + x, task.stride);
}

void blend(const BlendTask& task) {
    for (std::size_t x = 0; x < task.width; x += lanes) {
        const std::size_t left = 3 * (task.width - x);
        if (left >= 64) {
            blend_columns<false>(task, x, 0);
        } else {
            blend_columns<true>(task, x, (std::uint64_t{1} << left) - 1);
        }
    }
}

// The sums of sixteen outputs: `here` theirs, `next` those of the outputs one lane up.
template <std::size_t lines>
void add_steps(const ResampleTask& task, std::size_t group, const float* first_line, __m512* here, __m512* next) {
    for (std::size_t s = task.begins[group]; s < task.begins[group + 1]; ++s) {
        const __m512i index = _mm512_loadu_si512(task.indices + s * lanes);
        const __m512 weight = _mm512_loadu_ps(task.here + s * lanes), above = _mm512_loadu_ps(task.next + s * lanes);
        const float* inputs = first_line + task.bases[s];
        for (std::size_t i = 0; i < lines; ++i, inputs += task.stride) {
            const __m512 picked =
                _mm512_permutex2var_ps(_mm512_load_ps(inputs), index, _mm512_load_ps(inputs + lanes));
            here[i] = _mm512_fmadd_ps(weight, picked, here[i]);
            next[i] = _mm512_fmadd_ps(above, picked, next[i]);
        }
    }
}

// `count` rows from row r on.
template <std::size_t count>
void resample_rows(const ResampleTask& task, std::size_t r) {
    __m512 carry[3 * count];
    for (__m512& value : carry) value = _mm512_setzero_ps();
    for (std::size_t group = 0, x = 0; x < task.width; ++group, x += lanes) {
        __m512 here[3 * count], next[3 * count];
        for (std::size_t i = 0; i < 3 * count; ++i) here[i] = next[i] = _mm512_setzero_ps();
        add_steps<3 * count>(task, group, task.lines + 3 * r * task.stride, here, next);
        const auto valid = static_cast<__mmask16>(task.width - x < lanes ? (1U << (task.width - x)) - 1 : 0xFFFF);
        for (std::size_t i = 0; i < 3 * count; ++i) {
            const __m512 from_below = _mm512_castsi512_ps(
                _mm512_alignr_epi32(_mm512_castps_si512(next[i]), _mm512_castps_si512(carry[i]), lanes - 1));
            const __m512 scale = _mm512_set1_ps(task.scale[i % 3]), offset = _mm512_set1_ps(task.offset[i % 3]);
            _mm512_mask_storeu_ps(task.planes[i % 3] + (r + i / 3) * task.width + x, valid,
                                  _mm512_fmadd_ps(_mm512_add_ps(here[i], from_below), scale, offset));
            carry[i] = next[i];
        }
    }
}

void resample(const ResampleTask& task) {
    std::size_t r = 0;
    for (; r + 2 <= task.rows; r += 2) resample_rows<2>(task, r);
    if (r < task.rows) resample_rows<1>(task, r);
}

}  // namespace

const PreprocessLoops preprocess_loops{{.lanes = lanes, .window = 2 * lanes, .alignment = lanes}, &blend, &resample};

}  // namespace bowerbird::avx512
