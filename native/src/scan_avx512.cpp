#include <immintrin.h>

#include "scan_loops.hpp"

namespace bowerbird::avx512 {
namespace {

constexpr std::size_t vector_words = 8;  // 64-bit words in a register
constexpr std::size_t ahead_bytes = 4096;

// Ask for the bytes some codes ahead: the processor's own prefetch stops at every page.
void prefetch(const std::uint8_t* codes, std::size_t bytes) {
    for (std::size_t b = 0; b < bytes; b += 64) _mm_prefetch(codes + ahead_bytes + b, _MM_HINT_T0);
}

__m512i load_words(const std::uint8_t* bytes, std::size_t words) {
    const auto lanes = static_cast<__mmask8>(words >= vector_words ? 0xFF : (1U << words) - 1);
    return _mm512_maskz_loadu_epi64(lanes, bytes);
}

// Four registers of per-word counts (each below 2^16) become one: count of register r in 16-bit lane 4 * word + r.
__m512i interleave(const __m512i counts[4]) {
    const __m512i low = _mm512_or_si512(counts[0], _mm512_slli_epi64(counts[1], 16));
    const __m512i high = _mm512_or_si512(_mm512_slli_epi64(counts[2], 32), _mm512_slli_epi64(counts[3], 48));
    return _mm512_or_si512(low, high);
}

// Sum neighbouring words until every word of a code holds the sum over the code.
template <std::size_t words>
__m512i sum_words(__m512i lanes) {
    if constexpr (words >= 2) lanes = _mm512_add_epi16(lanes, _mm512_permutex_epi64(lanes, 0b10'11'00'01));
    if constexpr (words >= 4) lanes = _mm512_add_epi16(lanes, _mm512_permutex_epi64(lanes, 0b01'00'11'10));
    if constexpr (words >= 8) lanes = _mm512_add_epi16(lanes, _mm512_shuffle_i64x2(lanes, lanes, 0b01'00'11'10));
    return lanes;
}

// Lane of the sum of code c, when register r holds the codes r * (8 / words) ... of a group of 32 / words.
template <std::size_t words>
__m512i order_of_codes() {
    alignas(64) std::uint16_t lanes[32] = {};
    constexpr std::size_t in_register = vector_words / words;
    for (std::size_t c = 0; c < 4 * in_register; ++c) {
        lanes[c] = static_cast<std::uint16_t>(c % in_register * words * 4 + c / in_register);
    }
    return _mm512_load_si512(lanes);
}

// Codes of at most one register: 1, 2, 4 or 8 words; 32 / words codes a step.
template <std::size_t words>
void hamming_short(const std::uint8_t* codes, std::size_t count, const std::uint8_t* query, std::uint16_t* distances) {
    constexpr std::size_t group = 4 * vector_words / words;
    const __m512i order = order_of_codes<words>();
    alignas(64) std::uint64_t repeated[vector_words];
    for (std::size_t w = 0; w < vector_words; ++w) __builtin_memcpy(repeated + w, query + w % words * 8, 8);
    const __m512i pattern = _mm512_load_si512(repeated);
    for (std::size_t first = 0; first < count; first += group) {
        const std::size_t codes_left = count - first;
        const std::size_t words_left = codes_left >= group ? 4 * vector_words : codes_left * words;
        const std::uint8_t* bytes = codes + first * words * 8;
        prefetch(bytes, group * words * 8);
        __m512i counts[4];
        for (std::size_t r = 0; r < 4; ++r) {
            const std::size_t done = r * vector_words;
            const __m512i code = words_left == 4 * vector_words
                                     ? _mm512_loadu_si512(bytes + done * 8)
                                     : load_words(bytes + done * 8, words_left > done ? words_left - done : 0);
            counts[r] = _mm512_popcnt_epi64(_mm512_xor_si512(code, pattern));
        }
        const __m512i sums = _mm512_permutexvar_epi16(order, sum_words<words>(interleave(counts)));
        const std::size_t valid = codes_left >= group ? group : codes_left;
        _mm512_mask_storeu_epi16(distances + first, static_cast<__mmask32>((std::uint64_t{1} << valid) - 1), sums);
    }
}

// Codes of any number of words: four at a time, register by register, the last one masked.
void hamming_long(const std::uint8_t* codes, std::size_t count, std::size_t words, const std::uint8_t* query,
                  std::uint16_t* distances) {
    const __m512i order = order_of_codes<8>();
    for (std::size_t first = 0; first < count; first += 4) {
        const std::size_t valid = count - first < 4 ? count - first : 4;
        prefetch(codes + first * words * 8, 4 * words * 8);
        __m512i counts[4] = {};
        for (std::size_t w = 0; w < words; w += vector_words) {
            const __m512i pattern = load_words(query + w * 8, words - w);
            for (std::size_t r = 0; r < 4; ++r) {
                const std::size_t code = first + (r < valid ? r : 0);  // beyond the end: any code, not stored
                const __m512i bits = load_words(codes + (code * words + w) * 8, words - w);
                counts[r] = _mm512_add_epi64(counts[r], _mm512_popcnt_epi64(_mm512_xor_si512(bits, pattern)));
            }
        }
        const __m512i sums = _mm512_permutexvar_epi16(order, sum_words<8>(interleave(counts)));
        _mm512_mask_storeu_epi16(distances + first, static_cast<__mmask32>((1U << valid) - 1), sums);
    }
}

void hamming(const std::uint8_t* codes, std::size_t count, std::size_t words, const std::uint8_t* query,
             std::uint16_t* distances) {
    switch (words) {
        case 1: return hamming_short<1>(codes, count, query, distances);
        case 2: return hamming_short<2>(codes, count, query, distances);
        case 4: return hamming_short<4>(codes, count, query, distances);
        case 8: return hamming_short<8>(codes, count, query, distances);
        default: return hamming_long(codes, count, words, query, distances);
    }
}

std::size_t below(const std::uint16_t* distances, std::size_t count, std::uint16_t limit, const std::uint64_t* mask,
                  std::uint16_t* positions) {
    const __m512i bar = _mm512_set1_epi16(static_cast<short>(limit));
    std::size_t hits = 0;
    for (std::size_t first = 0; first < count; first += 32) {
        const std::size_t left = count - first;
        auto lanes = static_cast<__mmask32>(left >= 32 ? 0xFFFFFFFFU : (1U << left) - 1);
        if (mask != nullptr) lanes &= static_cast<__mmask32>(mask[first / 64] >> first % 64);
        std::uint32_t found =
            _mm512_mask_cmplt_epu16_mask(lanes, _mm512_maskz_loadu_epi16(lanes, distances + first), bar);
        for (; found != 0; found &= found - 1) {
            positions[hits++] = static_cast<std::uint16_t>(first + static_cast<unsigned>(__builtin_ctz(found)));
        }
    }
    return hits;
}

}  // namespace

const ScanLoops scan_loops{&hamming, &below};

}  // namespace bowerbird::avx512
