#include <immintrin.h>

#include "preprocess_loops.hpp"

namespace bowerbird::avx2 {
namespace {

constexpr std::size_t lanes = 8;

struct Pixels {
    __m256 channels[3];
};

Pixels zero() { return {{_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()}}; }

// Byte shuffle: channel c of four pixels of each half, each widened to 32 bits. The upper half holds its pixels from
// byte 4 on.
__m256i channel_bytes(int c) {
    const auto at = [c](int byte) { return static_cast<int>(0x80808000U) | (byte + c); };
    return _mm256_setr_epi32(at(0), at(3), at(6), at(9), at(4), at(7), at(10), at(13));
}

// Eight pixels, one register a channel; reads their 24 bytes and no more.
Pixels load(const std::uint8_t* bytes) {
    const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
    const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + 8));
    const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
    Pixels pixels;
    for (int c = 0; c < 3; ++c) {
        pixels.channels[c] = _mm256_cvtepi32_ps(_mm256_shuffle_epi8(both, channel_bytes(c)));
    }
    return pixels;
}

void add(Pixels& sums, const Pixels& pixels, float weight) {
    for (std::size_t c = 0; c < 3; ++c) {
        sums.channels[c] = _mm256_fmadd_ps(_mm256_set1_ps(weight), pixels.channels[c], sums.channels[c]);
    }
}

void store(const Pixels& pixels, float* lines, std::size_t stride) {
    for (std::size_t c = 0; c < 3; ++c) _mm256_storeu_ps(lines + c * stride, pixels.channels[c]);
}

// Eight columns from x on. Returns what goes to the row after the last.
Pixels blend_columns(const BlendTask& task, std::size_t x) {
    Pixels here = zero(), next = zero();
    for (std::size_t c = 0; c < 3; ++c) here.channels[c] = _mm256_loadu_ps(task.carry + c * task.stride + x);
    const Visit* visit = task.visits;
    for (std::size_t r = 0; r < task.rows; ++r) {
        for (const Visit* end = visit + task.counts[r]; visit < end; ++visit) {
            const std::uint8_t* bytes = visit->row + 3 * x;
            _mm_prefetch(reinterpret_cast<const char*>(bytes + bytes_ahead), _MM_HINT_T0);
            const Pixels pixels = load(bytes);
            add(here, pixels, visit->here);
            add(next, pixels, visit->next);
        }
        store(here, task.lines + 3 * r * task.stride + x, task.stride);
        here = next;
        next = zero();
    }
    return here;
}

// The last block may overlap the one before it: it is summed first, while its carry is whole, and gives the same there.
void blend(const BlendTask& task) {
    if (task.width < lanes) return portable::preprocess_loops.blend(task);
    const std::size_t last = task.width - lanes;
    const Pixels last_carry = blend_columns(task, last);
    for (std::size_t x = 0; x < last; x += lanes) store(blend_columns(task, x), task.carry + x, task.stride);
    store(last_carry, task.carry + last, task.stride);
}

// The sums of eight outputs of a row: `here` theirs, `next` those of the outputs one lane up.
void add_steps(const ResampleTask& task, std::size_t group, const float* lines, __m256* here, __m256* next) {
    for (std::size_t s = task.begins[group]; s < task.begins[group + 1]; ++s) {
        const __m256i index = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(task.indices + s * lanes));
        const __m256 weight = _mm256_loadu_ps(task.here + s * lanes), above = _mm256_loadu_ps(task.next + s * lanes);
        const float* inputs = lines + task.bases[s];
        for (std::size_t c = 0; c < 3; ++c, inputs += task.stride) {
            const __m256 picked = _mm256_permutevar8x32_ps(_mm256_loadu_ps(inputs), index);
            here[c] = _mm256_fmadd_ps(weight, picked, here[c]);
            next[c] = _mm256_fmadd_ps(above, picked, next[c]);
        }
    }
}

void resample_row(const ResampleTask& task, std::size_t r) {
    const __m256i position = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i one_up = _mm256_setr_epi32(7, 0, 1, 2, 3, 4, 5, 6);
    __m256 carry[3] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    for (std::size_t group = 0, x = 0; x < task.width; ++group, x += lanes) {
        __m256 here[3], next[3];
        for (std::size_t c = 0; c < 3; ++c) here[c] = next[c] = _mm256_setzero_ps();
        add_steps(task, group, task.lines + 3 * r * task.stride, here, next);
        const std::size_t left = task.width - x;
        const __m256i valid =
            _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(left < lanes ? left : lanes)), position);
        for (std::size_t c = 0; c < 3; ++c) {
            const __m256 moved = _mm256_permutevar8x32_ps(next[c], one_up);
            const __m256 sum = _mm256_add_ps(here[c], _mm256_blend_ps(moved, carry[c], 1));
            const __m256 scale = _mm256_set1_ps(task.scale[c]), offset = _mm256_set1_ps(task.offset[c]);
            _mm256_maskstore_ps(task.planes[c] + r * task.width + x, valid, _mm256_fmadd_ps(sum, scale, offset));
            carry[c] = moved;
        }
    }
}

void resample(const ResampleTask& task) {
    for (std::size_t r = 0; r < task.rows; ++r) resample_row(task, r);
}

}  // namespace

const PreprocessLoops preprocess_loops{{.lanes = lanes, .window = lanes, .alignment = 1}, &blend, &resample};

}  // namespace bowerbird::avx2
