#include <immintrin.h>

#include "scan_loops.hpp"

namespace bowerbird::avx512 {
namespace {

constexpr std::size_t vector_words = 8;  // 64-bit words in a register
constexpr std::size_t max_words = 64;    // of a code
constexpr std::size_t ahead_bytes = 8192;

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

std::size_t below(const std::uint16_t* distances, std::size_t count, std::uint16_t limit, std::uint16_t* positions) {
    const __m512i bar = _mm512_set1_epi16(static_cast<short>(limit));
    std::size_t hits = 0;
    for (std::size_t first = 0; first < count; first += 32) {
        const std::size_t left = count - first;
        const auto lanes = static_cast<__mmask32>(left >= 32 ? 0xFFFFFFFFU : (1U << left) - 1);
        std::uint32_t found =
            _mm512_mask_cmplt_epu16_mask(lanes, _mm512_maskz_loadu_epi16(lanes, distances + first), bar);
        for (; found != 0; found &= found - 1) {
            positions[hits++] = static_cast<std::uint16_t>(first + static_cast<unsigned>(__builtin_ctz(found)));
        }
    }
    return hits;
}

// ---- arranged blocks: a lane of 64 bits holds one code, so that its distance needs no sum across lanes ----
//
// Counted one by one, a word of 8 codes takes three operations (xor, count, add) on two ports: 22 cycles for 32 codes
// of 256 bits. Three words at once take less: with a, b and c their differences from the query, the ones of a, b and c
// are those of sum = a ^ b ^ c and twice those of carry = the majority of the three. The sum is one xor, since blocks
// and queries hold the sum of each three words in place of the third; the carry is one operation on a, b and sum. So 8
// operations count what took 9, and 256 bits take 20 cycles. To compare with the limit takes 3 cycles more.

constexpr std::size_t parts = group_codes / vector_words;  // registers that hold one word of a group

// Functions of three bits, as truth tables.
constexpr int exclusive_or = 0b10010110;     // a ^ b ^ c
constexpr int majority_by_sum = 0b11010100;  // the majority of a, b and c, from a, b and a ^ b ^ c

// Lanes 0 and 2, or 1 and 3, of 128 bits of two vectors.
__m512i even_lanes(__m512i a, __m512i b) { return _mm512_shuffle_i64x2(a, b, 0b10'00'10'00); }
__m512i odd_lanes(__m512i a, __m512i b) { return _mm512_shuffle_i64x2(a, b, 0b11'01'11'01); }

// At most 8 words from `word` on of 8 codes become a vector a word.
void transpose_8(const std::uint8_t* const codes[8], std::size_t word, std::size_t words, __m512i columns[8]) {
    __m512i pairs[8], fours[8];
    for (std::size_t i = 0; i < 8; i += 2) {
        const __m512i even = load_words(codes[i] + word * 8, words - word);
        const __m512i odd = load_words(codes[i + 1] + word * 8, words - word);
        pairs[i] = _mm512_unpacklo_epi64(even, odd);
        pairs[i + 1] = _mm512_unpackhi_epi64(even, odd);
    }
    for (std::size_t i = 0; i < 8; i += 4) {
        for (std::size_t j = 0; j < 2; ++j) {
            fours[i + j] = even_lanes(pairs[i + j], pairs[i + 2 + j]);
            fours[i + 2 + j] = odd_lanes(pairs[i + j], pairs[i + 2 + j]);
        }
    }
    for (std::size_t i = 0; i < 4; ++i) {
        columns[i] = even_lanes(fours[i], fours[i + 4]);
        columns[i + 4] = odd_lanes(fours[i], fours[i + 4]);
    }
}

// At most 4 words of two codes side by side.
__m512i load_two(const std::uint8_t* low, const std::uint8_t* high, std::size_t words) {
    const auto lanes = static_cast<__mmask8>((1U << words) - 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_maskz_loadu_epi64(lanes, low)),
                              _mm256_maskz_loadu_epi64(lanes, high), 1);
}

// The same for at most 4 words: a third of the shuffles.
inline void transpose_4(const std::uint8_t* const codes[8], std::size_t word, std::size_t words, __m512i columns[4]) {
    const std::size_t at = word * 8, left = words - word;
    const __m512i codes_02 = load_two(codes[0] + at, codes[2] + at, left);
    const __m512i codes_13 = load_two(codes[1] + at, codes[3] + at, left);
    const __m512i codes_46 = load_two(codes[4] + at, codes[6] + at, left);
    const __m512i codes_57 = load_two(codes[5] + at, codes[7] + at, left);
    const __m512i low_0123 = _mm512_unpacklo_epi64(codes_02, codes_13);
    const __m512i high_0123 = _mm512_unpackhi_epi64(codes_02, codes_13);
    const __m512i low_4567 = _mm512_unpacklo_epi64(codes_46, codes_57);
    const __m512i high_4567 = _mm512_unpackhi_epi64(codes_46, codes_57);
    columns[0] = even_lanes(low_0123, low_4567);
    columns[1] = even_lanes(high_0123, high_4567);
    columns[2] = odd_lanes(low_0123, low_4567);
    columns[3] = odd_lanes(high_0123, high_4567);
}

// In place of each third word the sum without carries of the three.
void sum_threes(std::size_t words, std::uint64_t* at) {
    for (std::size_t w = 2; w < words; w += 3) {
        std::uint64_t* third = at + w * group_codes;
        const __m512i sum = _mm512_ternarylogic_epi64(_mm512_loadu_si512(third - 2 * group_codes),
                                                      _mm512_loadu_si512(third - group_codes),
                                                      _mm512_loadu_si512(third), exclusive_or);
        _mm512_storeu_si512(third, sum);
    }
}

// Eight codes, word by word, to every `group_codes`-th place.
void arrange_eight(const std::uint8_t* const codes[8], std::size_t words, std::uint64_t* at) {
    for (std::size_t first = 0; first < words; first += vector_words) {
        __m512i columns[vector_words];
        const std::size_t left = words - first;
        if (left <= 4) {
            transpose_4(codes, first, words, columns);
        } else {
            transpose_8(codes, first, words, columns);
        }
        for (std::size_t i = 0; i < vector_words && i < left; ++i) {
            _mm512_storeu_si512(at + (first + i) * group_codes, columns[i]);
        }
    }
    sum_threes(words, at);
}

// A constant number of words has its masks and branches settled; 0 is any number.
template <std::size_t constant_words>
void arrange_words(const std::uint8_t* codes, const std::uint16_t* positions, std::size_t count, std::size_t any_words,
                   std::uint64_t* block) {
    const std::size_t words = constant_words != 0 ? constant_words : any_words;
    const std::size_t padded = (count + group_codes - 1) / group_codes * group_codes;
    for (std::size_t first = 0; first < padded; first += vector_words) {
        const std::uint8_t* eight[vector_words];
        for (std::size_t lane = 0; lane < vector_words; ++lane) {
            const std::size_t i = first + lane < count ? first + lane : count - 1;
            eight[lane] = codes + (positions == nullptr ? i : positions[i]) * words * 8;
        }
        std::uint64_t* at = block + first / group_codes * group_codes * words + first % group_codes;
        if constexpr (constant_words == 4) {
            __m512i columns[4];
            transpose_4(eight, 0, 4, columns);
            columns[2] = _mm512_ternarylogic_epi64(columns[0], columns[1], columns[2], exclusive_or);
            for (std::size_t i = 0; i < 4; ++i) _mm512_storeu_si512(at + i * group_codes, columns[i]);
        } else {
            arrange_eight(eight, words, at);
        }
    }
}

// By groups: word by word, 32 codes side by side. Beyond the end the last code again.
void arrange(const std::uint8_t* codes, const std::uint16_t* positions, std::size_t count, std::size_t words,
             std::uint64_t* block) {
    if (words == 4) {
        arrange_words<4>(codes, positions, count, words, block);
    } else {
        arrange_words<0>(codes, positions, count, words, block);
    }
}

__m512i load_part(const std::uint64_t* codes, std::size_t word, std::size_t part) {
    return _mm512_loadu_si512(codes + word * group_codes + part * vector_words);
}

// Add the ones of three words of a group.
inline void count_three(const std::uint64_t* codes, const std::uint64_t* query, __m512i ones[parts],
                        __m512i twos[parts]) {
    const __m512i query_a = _mm512_set1_epi64(static_cast<long long>(query[0]));
    const __m512i query_b = _mm512_set1_epi64(static_cast<long long>(query[1]));
    const __m512i query_sum = _mm512_set1_epi64(static_cast<long long>(query[2]));
    for (std::size_t part = 0; part < parts; ++part) {
        const __m512i a = _mm512_xor_si512(load_part(codes, 0, part), query_a);
        const __m512i b = _mm512_xor_si512(load_part(codes, 1, part), query_b);
        const __m512i sum = _mm512_xor_si512(load_part(codes, 2, part), query_sum);
        const __m512i carry = _mm512_ternarylogic_epi64(a, b, sum, majority_by_sum);
        ones[part] = _mm512_add_epi64(ones[part], _mm512_popcnt_epi64(sum));
        twos[part] = _mm512_add_epi64(twos[part], _mm512_popcnt_epi64(carry));
    }
}

// Add the ones of one word of a group.
inline void count_word(const std::uint64_t* codes, std::uint64_t word, __m512i ones[parts]) {
    const __m512i pattern = _mm512_set1_epi64(static_cast<long long>(word));
    for (std::size_t part = 0; part < parts; ++part) {
        const __m512i differing = _mm512_xor_si512(load_part(codes, 0, part), pattern);
        ones[part] = _mm512_add_epi64(ones[part], _mm512_popcnt_epi64(differing));
    }
}

// Distances of a group.
inline void measure(const std::uint64_t* codes, const std::uint64_t* query, std::size_t words,
                    __m512i distances[parts]) {
    __m512i ones[parts] = {}, twos[parts] = {};
    const std::size_t in_threes = words / 3 * 3;
    for (std::size_t w = 0; w < in_threes; w += 3) count_three(codes + w * group_codes, query + w, ones, twos);
    for (std::size_t w = in_threes; w < words; ++w) count_word(codes + w * group_codes, query[w], ones);
    // One operation for ones + 2 * twos.
    const __m512i two = _mm512_set1_epi64(2);
    for (std::size_t part = 0; part < parts; ++part) {
        distances[part] = _mm512_dpwssd_epi32(ones[part], twos[part], two);
    }
}

// The distances of one group below the limit, as hits.
std::size_t store_hits(const __m512i distances[parts], __m512i limit, std::size_t first, std::size_t count, Hit* hits) {
    std::size_t found = 0;
    for (std::size_t part = 0; part < parts; ++part) {
        const auto start = static_cast<long long>(first + part * vector_words);
        const __m512i position = _mm512_add_epi64(_mm512_set1_epi64(start), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
        const __mmask8 there = _mm512_cmplt_epi64_mask(position, _mm512_set1_epi64(static_cast<long long>(count)));
        const __mmask8 under = _mm512_mask_cmplt_epi64_mask(there, distances[part], limit);
        const __m512i all = _mm512_or_si512(_mm512_slli_epi64(position, 16), distances[part]);
        _mm512_storeu_si512(hits + found, _mm512_maskz_compress_epi64(under, all));
        found += static_cast<unsigned>(__builtin_popcount(under));
    }
    return found;
}

// A constant number of words keeps the query in registers; 0 is any number.
template <std::size_t constant_words>
std::size_t nearer_words(const std::uint64_t* block, std::size_t count, std::size_t any_words,
                         const std::uint64_t* query, std::uint16_t limit, Hit* hits) {
    const std::size_t words = constant_words != 0 ? constant_words : any_words;
    const __m512i bar = _mm512_set1_epi64(limit);
    std::size_t found = 0;
    for (std::size_t first = 0; first < count; first += group_codes) {
        __m512i distances[parts];
        measure(block + first * words, query, words, distances);
        // Distances fill the low 16 bits of their lanes, so the least of 16 bits is the least.
        const __m512i least = _mm512_min_epu16(_mm512_min_epu16(distances[0], distances[1]),
                                               _mm512_min_epu16(distances[2], distances[3]));
        if (_mm512_cmplt_epi64_mask(least, bar) == 0) continue;
        found += store_hits(distances, bar, first, count, hits + found);
    }
    return found;
}

std::size_t nearer(const std::uint64_t* block, std::size_t count, std::size_t words, const std::uint8_t* query,
                   std::uint16_t limit, Hit* hits) {
    std::uint64_t pattern[max_words];
    __builtin_memcpy(pattern, query, words * 8);
    for (std::size_t w = 2; w < words; w += 3) pattern[w] ^= pattern[w - 2] ^ pattern[w - 1];
    switch (words) {
        case 1: return nearer_words<1>(block, count, words, pattern, limit, hits);
        case 2: return nearer_words<2>(block, count, words, pattern, limit, hits);
        case 4: return nearer_words<4>(block, count, words, pattern, limit, hits);
        default: return nearer_words<0>(block, count, words, pattern, limit, hits);
    }
}

}  // namespace

const ScanLoops scan_loops{&hamming, &below, &arrange, &nearer};

}  // namespace bowerbird::avx512
