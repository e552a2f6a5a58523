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

// ---- tiles: a lane of 64 bits holds one code, so that its distance needs no sum across lanes ----
//
// Three operations (xor, count, add) take one word of 8 codes for one query, on two ports: 0.75 cycles a pair of 256
// bits. The comparison with the limits adds 5 operations for 32 codes.

constexpr std::size_t parts = group_codes / vector_words;  // registers that hold one word of a group

// Eight vectors of 8 words become eight vectors with one word of each.
void transpose(__m512i rows[8]) {
    __m512i pairs[8], fours[8];
    for (std::size_t i = 0; i < 8; i += 2) {
        pairs[i] = _mm512_unpacklo_epi64(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi64(rows[i], rows[i + 1]);
    }
    for (std::size_t i = 0; i < 8; i += 4) {
        for (std::size_t j = 0; j < 2; ++j) {
            fours[i + j] = _mm512_shuffle_i64x2(pairs[i + j], pairs[i + 2 + j], 0b10'00'10'00);
            fours[i + 2 + j] = _mm512_shuffle_i64x2(pairs[i + j], pairs[i + 2 + j], 0b11'01'11'01);
        }
    }
    for (std::size_t i = 0; i < 4; ++i) {
        rows[i] = _mm512_shuffle_i64x2(fours[i], fours[i + 4], 0b10'00'10'00);
        rows[i + 4] = _mm512_shuffle_i64x2(fours[i], fours[i + 4], 0b11'01'11'01);
    }
}

// By groups: word by word, 32 codes side by side. Beyond the end the last code again.
void arrange_codes(const std::uint8_t* codes, const std::uint16_t* positions, std::size_t count, std::size_t words,
                   std::uint64_t* block) {
    for (std::size_t first = 0; first < count; first += group_codes) {
        for (std::size_t part = 0; part < parts; ++part) {
            const std::uint8_t* eight[vector_words];
            for (std::size_t lane = 0; lane < vector_words; ++lane) {
                const std::size_t wanted = first + part * vector_words + lane;
                const std::size_t i = wanted < count ? wanted : count - 1;
                eight[lane] = codes + (positions == nullptr ? i : positions[i]) * words * 8;
            }
            std::uint64_t* at = block + first * words + part * vector_words;
            for (std::size_t w = 0; w < words; w += vector_words) {
                __m512i rows[vector_words];
                for (std::size_t lane = 0; lane < vector_words; ++lane) {
                    rows[lane] = load_words(eight[lane] + w * 8, words - w);
                }
                transpose(rows);
                for (std::size_t i = 0; i < vector_words && w + i < words; ++i) {
                    _mm512_storeu_si512(at + (w + i) * group_codes, rows[i]);
                }
            }
        }
    }
}

// Word by word, query by query.
void arrange_queries(const std::uint8_t* const* queries, std::size_t num_queries, std::size_t words,
                     std::uint64_t* tile) {
    for (std::size_t w = 0; w < words; ++w) {
        for (std::size_t q = 0; q < num_queries; ++q) {
            __builtin_memcpy(tile + w * num_queries + q, queries[q] + w * 8, 8);
        }
    }
}

template <std::size_t num_queries>
using Distances = __m512i[num_queries][parts];

// The distances of one group that lie below the limits, as hits.
template <std::size_t num_queries>
std::size_t store_hits(const Distances<num_queries>& sums, const TileTask& task, std::size_t first, Hit* hits) {
    const __m512i lane = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    std::size_t found = 0;
    for (std::size_t q = 0; q < num_queries; ++q) {
        for (std::size_t part = 0; part < parts; ++part) {
            const __m512i position = _mm512_add_epi64(lane, _mm512_set1_epi64(static_cast<long long>(first + part * 8)));
            const __mmask8 there =
                _mm512_cmplt_epu64_mask(position, _mm512_set1_epi64(static_cast<long long>(task.count)));
            const __mmask8 under =
                _mm512_mask_cmplt_epu64_mask(there, sums[q][part], _mm512_set1_epi64(task.limits[q]));
            const __m512i where = _mm512_add_epi64(_mm512_slli_epi64(position, 16),
                                                   _mm512_set1_epi64(static_cast<long long>(q << 32)));
            _mm512_storeu_si512(hits + found,
                                _mm512_maskz_compress_epi64(under, _mm512_or_si512(where, sums[q][part])));
            found += static_cast<unsigned>(__builtin_popcount(under));
        }
    }
    return found;
}

template <std::size_t num_queries>
std::size_t nearer_tile(const TileTask& task, Hit* hits) {
    __m512i limits[num_queries];
    for (std::size_t q = 0; q < num_queries; ++q) limits[q] = _mm512_set1_epi64(task.limits[q]);
    std::size_t found = 0;
    for (std::size_t first = 0; first < task.count; first += group_codes) {
        const std::uint64_t* codes = task.block + first * task.words;
        Distances<num_queries> sums = {};
        for (std::size_t w = 0; w < task.words; ++w) {
            __m512i code[parts];
            for (std::size_t part = 0; part < parts; ++part) {
                code[part] = _mm512_loadu_si512(codes + w * group_codes + part * vector_words);
            }
            for (std::size_t q = 0; q < num_queries; ++q) {
                const __m512i query = _mm512_set1_epi64(static_cast<long long>(task.queries[w * num_queries + q]));
                for (std::size_t part = 0; part < parts; ++part) {
                    const __m512i ones = _mm512_popcnt_epi64(_mm512_xor_si512(code[part], query));
                    sums[q][part] = _mm512_add_epi64(sums[q][part], ones);
                }
            }
        }
        // Distances fill the low 16 bits of their lanes, so the least of 16 bits is the least.
        __m512i under = _mm512_setzero_si512();  // negative where a distance is below the limit
        for (std::size_t q = 0; q < num_queries; ++q) {
            const __m512i least = _mm512_min_epu16(_mm512_min_epu16(sums[q][0], sums[q][1]),
                                                   _mm512_min_epu16(sums[q][2], sums[q][3]));
            under = _mm512_or_si512(under, _mm512_sub_epi64(least, limits[q]));
        }
        if (_mm512_movepi64_mask(under) != 0) found += store_hits<num_queries>(sums, task, first, hits + found);
    }
    return found;
}

std::size_t nearer(const TileTask& task, Hit* hits) {
    switch (task.num_queries) {
        case 1: return nearer_tile<1>(task, hits);
        case 2: return nearer_tile<2>(task, hits);
        case 3: return nearer_tile<3>(task, hits);
        default: return nearer_tile<4>(task, hits);
    }
}

}  // namespace

const ScanLoops scan_loops{&hamming, &below, &arrange_codes, &arrange_queries, &nearer};

}  // namespace bowerbird::avx512
