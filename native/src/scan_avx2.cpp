#include <immintrin.h>

#include "scan_loops.hpp"

namespace bowerbird::avx2 {
namespace {

constexpr std::size_t vector_words = 4;  // 64-bit words in a register
constexpr std::size_t ahead_bytes = 8192;

// Ask for the bytes some codes ahead: the processor's own prefetch stops at every page.
void prefetch(const std::uint8_t* codes, std::size_t bytes) {
    for (std::size_t b = 0; b < bytes; b += 64) _mm_prefetch(codes + ahead_bytes + b, _MM_HINT_T0);
}

// The first `words` words, zeros for the rest.
__m256i load_words(const std::uint8_t* bytes, std::size_t words) {
    if (words >= vector_words) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
    const __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
    const __m256i wanted = _mm256_cmpgt_epi64(_mm256_set1_epi64x(static_cast<long long>(words)), lane);
    return _mm256_maskload_epi64(reinterpret_cast<const long long*>(bytes), wanted);
}

// Ones in each byte: both halves of a byte look their count up in a table of 16.
__m256i count_bytes(__m256i bits) {
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                           0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i nibble = _mm256_set1_epi8(0x0F);
    const __m256i low = _mm256_shuffle_epi8(table, _mm256_and_si256(bits, nibble));
    const __m256i high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(bits, 4), nibble));
    return _mm256_add_epi8(low, high);
}

// Four registers of byte counts become one: the sum of word w of register r in 16-bit lane 4 * w + r.
__m256i interleave(const __m256i counts[4]) {
    const __m256i zero = _mm256_setzero_si256();
    const __m256i low = _mm256_or_si256(_mm256_sad_epu8(counts[0], zero),
                                        _mm256_slli_epi64(_mm256_sad_epu8(counts[1], zero), 16));
    const __m256i high = _mm256_or_si256(_mm256_slli_epi64(_mm256_sad_epu8(counts[2], zero), 32),
                                         _mm256_slli_epi64(_mm256_sad_epu8(counts[3], zero), 48));
    return _mm256_or_si256(low, high);
}

// Four distances of codes whose words were summed lane by lane: the sum over the four words of each register.
std::uint64_t sum_words(__m256i lanes) {
    const __m128i halves = _mm_add_epi16(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
    return static_cast<std::uint64_t>(_mm_cvtsi128_si64(_mm_add_epi16(halves, _mm_srli_si128(halves, 8))));
}

void store(std::uint16_t* distances, std::uint64_t four, std::size_t valid) {
    __builtin_memcpy(distances, &four, 2 * (valid < 4 ? valid : 4));
}

// Codes of 4 words, the common case: everything known to the compiler.
void hamming_256(const std::uint8_t* codes, std::size_t count, const std::uint8_t* query, std::uint16_t* distances) {
    const __m256i pattern = load_words(query, 4);
    std::size_t first = 0;
    for (; first + 4 <= count; first += 4) {
        prefetch(codes + first * 32, 4 * 32);
        __m256i counts[4];
        for (std::size_t r = 0; r < 4; ++r) {
            counts[r] = count_bytes(_mm256_xor_si256(load_words(codes + (first + r) * 32, 4), pattern));
        }
        store(distances + first, sum_words(interleave(counts)), 4);
    }
    for (; first < count; ++first) {
        const __m256i counts[4] = {count_bytes(_mm256_xor_si256(load_words(codes + first * 32, 4), pattern))};
        store(distances + first, sum_words(interleave(counts)), 1);
    }
}

// Codes of any number of words, four at a time. 4096 bits are 16 registers: a byte counts to 128 and never overflows.
void hamming_any(const std::uint8_t* codes, std::size_t count, std::size_t words, const std::uint8_t* query,
                 std::uint16_t* distances) {
    for (std::size_t first = 0; first < count; first += 4) {
        const std::size_t valid = count - first < 4 ? count - first : 4;
        prefetch(codes + first * words * 8, 4 * words * 8);
        __m256i counts[4] = {};
        for (std::size_t w = 0; w < words; w += vector_words) {
            const __m256i pattern = load_words(query + w * 8, words - w);
            for (std::size_t r = 0; r < 4; ++r) {
                const std::size_t code = first + (r < valid ? r : 0);  // beyond the end: any code, not stored
                const __m256i bits = load_words(codes + (code * words + w) * 8, words - w);
                counts[r] = _mm256_add_epi8(counts[r], count_bytes(_mm256_xor_si256(bits, pattern)));
            }
        }
        store(distances + first, sum_words(interleave(counts)), valid);
    }
}

void hamming(const std::uint8_t* codes, std::size_t count, std::size_t words, const std::uint8_t* query,
             std::uint16_t* distances) {
    if (words == 4) return hamming_256(codes, count, query, distances);
    hamming_any(codes, count, words, query, distances);
}

std::size_t below(const std::uint16_t* distances, std::size_t count, std::uint16_t limit, std::uint16_t* positions) {
    // Distances are at most 4096, so a limit clamped to the signed range compares the same.
    const __m256i bar = _mm256_set1_epi16(static_cast<short>(limit < 0x7FFF ? limit : 0x7FFF));
    std::size_t hits = 0;
    std::size_t first = 0;
    for (; first + 16 <= count; first += 16) {
        const __m256i values = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(distances + first));
        const __m256i less = _mm256_cmpgt_epi16(bar, values);
        if (_mm256_testz_si256(less, less)) continue;
        const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(less), _mm256_extracti128_si256(less, 1));
        auto found = static_cast<std::uint32_t>(_mm_movemask_epi8(bytes));
        for (; found != 0; found &= found - 1) {
            positions[hits++] = static_cast<std::uint16_t>(first + static_cast<unsigned>(__builtin_ctz(found)));
        }
    }
    for (; first < count; ++first) {
        positions[hits] = static_cast<std::uint16_t>(first);
        if (distances[first] < limit) ++hits;
    }
    return hits;
}

// ---- arranged blocks: a lane of 64 bits holds one code, so that its distance needs no sum across lanes ----
//
// A word is stored as its low and its high half bytes, each in a byte of their own, for the codes and for the query:
// two xors, two look-ups and two sums of bytes then count 64 bits of 4 codes, and nothing is shifted or masked.

constexpr std::size_t lanes = 4;
constexpr std::size_t parts = 4;                // registers of codes at once
constexpr std::size_t step_codes = parts * lanes;
constexpr std::size_t most_words_a_byte = 31;  // whose counts, 8 a word, a byte can hold
constexpr std::size_t max_words = 64;          // of a code

__m256i low_halves(__m256i bits) { return _mm256_and_si256(bits, _mm256_set1_epi8(0x0F)); }

__m256i high_halves(__m256i bits) { return low_halves(_mm256_srli_epi16(bits, 4)); }

// Of 4 codes, 4 words from `word` on: a vector of low and one of high halves a word, to every 2 * `parts`-th place.
void arrange_square(const std::uint8_t* const codes[lanes], std::size_t word, std::size_t words, __m256i* at) {
    __m256i rows[lanes];
    for (std::size_t i = 0; i < lanes; ++i) rows[i] = load_words(codes[i] + word * 8, words - word);
    const __m256i low_01 = _mm256_unpacklo_epi64(rows[0], rows[1]), high_01 = _mm256_unpackhi_epi64(rows[0], rows[1]);
    const __m256i low_23 = _mm256_unpacklo_epi64(rows[2], rows[3]), high_23 = _mm256_unpackhi_epi64(rows[2], rows[3]);
    const __m256i columns[vector_words] = {
        _mm256_permute2x128_si256(low_01, low_23, 0x20), _mm256_permute2x128_si256(high_01, high_23, 0x20),
        _mm256_permute2x128_si256(low_01, low_23, 0x31), _mm256_permute2x128_si256(high_01, high_23, 0x31)};
    for (std::size_t w = 0; w < vector_words && word + w < words; ++w) {
        _mm256_storeu_si256(at + (word + w) * 2 * parts, low_halves(columns[w]));
        _mm256_storeu_si256(at + (word + w) * 2 * parts + 1, high_halves(columns[w]));
    }
}

// By steps: word by word, 16 codes side by side. Beyond the end the last code again.
void arrange(const std::uint8_t* codes, const std::uint16_t* positions, std::size_t count, std::size_t words,
             std::uint64_t* block) {
    for (std::size_t first = 0; first < count; first += step_codes) {
        for (std::size_t part = 0; part < parts; ++part) {
            const std::uint8_t* four[lanes];
            for (std::size_t lane = 0; lane < lanes; ++lane) {
                const std::size_t wanted = first + part * lanes + lane;
                const std::size_t i = wanted < count ? wanted : count - 1;
                four[lane] = codes + (positions == nullptr ? i : positions[i]) * words * 8;
            }
            auto* at = reinterpret_cast<__m256i*>(block + first * words * 2) + part * 2;
            for (std::size_t w = 0; w < words; w += vector_words) arrange_square(four, w, words, at);
        }
    }
}

struct Halves {
    std::uint64_t low, high;
};

// Ones of the words of a step, at most `most_words_a_byte`, in bytes.
inline void count_words(const __m256i* codes, const Halves* query, std::size_t words, __m256i bytes[parts]) {
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                           0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    for (std::size_t w = 0; w < words; ++w) {
        const __m256i low = _mm256_set1_epi64x(static_cast<long long>(query[w].low));
        const __m256i high = _mm256_set1_epi64x(static_cast<long long>(query[w].high));
        for (std::size_t part = 0; part < parts; ++part) {
            const __m256i* code = codes + (w * parts + part) * 2;
            const __m256i low_ones = _mm256_shuffle_epi8(table, _mm256_xor_si256(_mm256_loadu_si256(code), low));
            const __m256i high_ones = _mm256_shuffle_epi8(table, _mm256_xor_si256(_mm256_loadu_si256(code + 1), high));
            bytes[part] = _mm256_add_epi8(bytes[part], _mm256_add_epi8(low_ones, high_ones));
        }
    }
}

// Distances of a step.
inline void measure(const __m256i* codes, const Halves* query, std::size_t words, __m256i distances[parts]) {
    for (std::size_t part = 0; part < parts; ++part) distances[part] = _mm256_setzero_si256();
    for (std::size_t w = 0; w < words; w += most_words_a_byte) {
        __m256i bytes[parts] = {};
        const std::size_t left = words - w;
        count_words(codes + w * 2 * parts, query + w, left < most_words_a_byte ? left : most_words_a_byte, bytes);
        for (std::size_t part = 0; part < parts; ++part) {
            const __m256i sums = _mm256_sad_epu8(bytes[part], _mm256_setzero_si256());
            distances[part] = _mm256_add_epi64(distances[part], sums);
        }
    }
}

std::size_t store_hits(const __m256i distances[parts], std::uint16_t limit, std::size_t first, std::size_t count,
                       Hit* hits) {
    alignas(32) std::uint64_t values[step_codes];
    for (std::size_t part = 0; part < parts; ++part) {
        _mm256_store_si256(reinterpret_cast<__m256i*>(values) + part, distances[part]);
    }
    std::size_t found = 0;
    for (std::size_t i = 0; i < step_codes && first + i < count; ++i) {
        hits[found] = (first + i) << 16 | values[i];
        if (values[i] < limit) ++found;
    }
    return found;
}

std::size_t nearer(const std::uint64_t* block, std::size_t count, std::size_t words, const std::uint8_t* query,
                   std::uint16_t limit, Hit* hits) {
    constexpr std::uint64_t half_bytes = 0x0F0F0F0F0F0F0F0FU;
    Halves halves[max_words];
    for (std::size_t w = 0; w < words; ++w) {
        std::uint64_t word;
        __builtin_memcpy(&word, query + w * 8, 8);
        halves[w] = {word & half_bytes, word >> 4 & half_bytes};
    }
    const __m256i bar = _mm256_set1_epi64x(limit);
    std::size_t found = 0;
    for (std::size_t first = 0; first < count; first += step_codes) {
        __m256i distances[parts];
        measure(reinterpret_cast<const __m256i*>(block + first * words * 2), halves, words, distances);
        // Distances fill the low 16 bits of their lanes, so the least of 16 bits is the least.
        const __m256i least = _mm256_min_epu16(_mm256_min_epu16(distances[0], distances[1]),
                                               _mm256_min_epu16(distances[2], distances[3]));
        const __m256i under = _mm256_cmpgt_epi64(bar, least);
        if (_mm256_testz_si256(under, under)) continue;
        found += store_hits(distances, limit, first, count, hits + found);
    }
    return found;
}

}  // namespace

const ScanLoops scan_loops{16 * 1024, &hamming, &below, &arrange, &nearer};

}  // namespace bowerbird::avx2
