#include <immintrin.h>

#include "scan_loops.hpp"

namespace bowerbird::avx2 {
namespace {

constexpr std::size_t vector_words = 4;  // 64-bit words in a register
constexpr std::size_t ahead_bytes = 4096;

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

std::size_t below(const std::uint16_t* distances, std::size_t count, std::uint16_t limit, const std::uint64_t* mask,
                  std::uint16_t* positions) {
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
        if (mask != nullptr) found &= static_cast<std::uint32_t>(mask[first / 64] >> first % 64);
        for (; found != 0; found &= found - 1) {
            positions[hits++] = static_cast<std::uint16_t>(first + static_cast<unsigned>(__builtin_ctz(found)));
        }
    }
    for (; first < count; ++first) {
        const bool allowed = mask == nullptr || (mask[first / 64] >> first % 64 & 1) != 0;
        positions[hits] = static_cast<std::uint16_t>(first);
        if (allowed && distances[first] < limit) ++hits;
    }
    return hits;
}

}  // namespace

const ScanLoops scan_loops{&hamming, &below};

}  // namespace bowerbird::avx2
