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

// ---- arranged blocks: a register holds the same half byte of 32 codes ----
//
// Whatever the half byte of the query is there, a table of 16 tells in how many of its bits each of the codes differs:
// one look-up and one addition count 4 bits of 32 codes, and nothing is xored, shifted or masked. On three ports that
// is 43 cycles for 32 codes of 256 bits; one table of ones for all half bytes needs an xor more, and 64 cycles.

constexpr std::size_t tile_groups = 4;        // compared at once: a table is loaded once for all
constexpr std::size_t most_bytes_a_run = 31;  // of a code, whose ones a byte can count
constexpr std::size_t max_bytes = 512;        // of a code

// ones[q][c]: in how many bits the half bytes q and c differ.
struct DifferenceTables {
    alignas(16) std::uint8_t ones[16][16];

    constexpr DifferenceTables() : ones() {
        for (unsigned q = 0; q < 16; ++q) {
            for (unsigned c = 0; c < 16; ++c) {
                const unsigned bits = q ^ c;
                ones[q][c] = static_cast<std::uint8_t>((bits & 1) + (bits >> 1 & 1) + (bits >> 2 & 1) + (bits >> 3));
            }
        }
    }
};

constexpr DifferenceTables tables;

// A byte of a query, as the tables of its halves.
struct TableBytes {
    std::uint8_t low, high;  // where a table begins: the half * 16
};

__m256i table_of(std::uint8_t begin) {
    return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(&tables.ones[0][0] + begin)));
}

// At most two words of a code, zeros for the rest.
__m128i load_two_words(const std::uint8_t* bytes, std::size_t words) {
    const auto* at = reinterpret_cast<const __m128i*>(bytes);
    return words >= 2 ? _mm_loadu_si128(at) : _mm_loadl_epi64(at);
}

// Each half of the registers: byte b of row r goes to byte r of row b. To pair the rows r and r + 8 byte by byte turns
// the eight bits of (row, byte) by one; four times swaps them.
void transpose_bytes(__m256i rows[16]) {
    for (int turn = 0; turn < 4; ++turn) {
        __m256i turned[16];
        for (std::size_t r = 0; r < 8; ++r) {
            turned[2 * r] = _mm256_unpacklo_epi8(rows[r], rows[r + 8]);
            turned[2 * r + 1] = _mm256_unpackhi_epi8(rows[r], rows[r + 8]);
        }
        for (std::size_t r = 0; r < 16; ++r) rows[r] = turned[r];
    }
}

// A group: byte by byte the low halves of its 32 codes, then the high halves.
void arrange_group(const std::uint8_t* const codes[group_codes], std::size_t words, __m256i* at) {
    const __m256i half = _mm256_set1_epi8(0x0F);
    for (std::size_t w = 0; w < words; w += 2) {
        const std::size_t left = words - w;
        __m256i rows[16];
        for (std::size_t r = 0; r < 16; ++r) {
            rows[r] = _mm256_set_m128i(load_two_words(codes[r + 16] + w * 8, left),
                                       load_two_words(codes[r] + w * 8, left));
        }
        transpose_bytes(rows);
        for (std::size_t b = 0; b < 16 && b < left * 8; ++b) {
            __m256i* halves = at + (w * 8 + b) * 2;
            _mm256_storeu_si256(halves, _mm256_and_si256(rows[b], half));
            _mm256_storeu_si256(halves + 1, _mm256_and_si256(_mm256_srli_epi16(rows[b], 4), half));
        }
    }
}

// By groups; beyond the end the last code again.
void arrange(const std::uint8_t* codes, const std::uint16_t* positions, std::size_t count, std::size_t words,
             std::uint64_t* block) {
    for (std::size_t first = 0; first < count; first += group_codes) {
        const std::uint8_t* group[group_codes];
        for (std::size_t c = 0; c < group_codes; ++c) {
            const std::size_t i = first + c < count ? first + c : count - 1;
            group[c] = codes + (positions == nullptr ? i : positions[i]) * words * 8;
        }
        arrange_group(group, words, reinterpret_cast<__m256i*>(block + first * words * 2));
    }
}

// 16 distances: of the codes 0 ... 7 and 16 ... 23 of a group, or of the others.
struct Distances {
    __m256i even, odd;
};

// Distances of `groups` groups, which lie `bytes` pairs of registers apart, to the query given as half bytes.
template <std::size_t groups>
void measure(const __m256i* codes, const TableBytes* query, std::size_t bytes, Distances distances[groups]) {
    const __m256i zero = _mm256_setzero_si256();
    for (std::size_t g = 0; g < groups; ++g) distances[g] = {zero, zero};
    for (std::size_t begin = 0; begin < bytes; begin += most_bytes_a_run) {
        const std::size_t end = bytes - begin < most_bytes_a_run ? bytes : begin + most_bytes_a_run;
        __m256i sums[groups] = {};
        for (std::size_t b = begin; b < end; ++b) {
            const __m256i low = table_of(query[b].low), high = table_of(query[b].high);
            for (std::size_t g = 0; g < groups; ++g) {
                const __m256i* code = codes + (g * bytes + b) * 2;
                const __m256i low_ones = _mm256_shuffle_epi8(low, _mm256_loadu_si256(code));
                const __m256i high_ones = _mm256_shuffle_epi8(high, _mm256_loadu_si256(code + 1));
                sums[g] = _mm256_add_epi8(sums[g], _mm256_add_epi8(low_ones, high_ones));
            }
        }
        for (std::size_t g = 0; g < groups; ++g) {
            distances[g].even = _mm256_add_epi16(distances[g].even, _mm256_unpacklo_epi8(sums[g], zero));
            distances[g].odd = _mm256_add_epi16(distances[g].odd, _mm256_unpackhi_epi8(sums[g], zero));
        }
    }
}

// The hits of one group; `valid` of its codes are there.
std::size_t store_hits(const Distances& distances, __m256i limit, std::size_t first, std::size_t valid, Hit* hits) {
    alignas(32) std::uint16_t values[group_codes];
    auto* at = reinterpret_cast<__m256i*>(values);
    _mm256_store_si256(at, _mm256_permute2x128_si256(distances.even, distances.odd, 0x20));
    _mm256_store_si256(at + 1, _mm256_permute2x128_si256(distances.even, distances.odd, 0x31));
    const __m256i under = _mm256_packs_epi16(_mm256_cmpgt_epi16(limit, distances.even),
                                             _mm256_cmpgt_epi16(limit, distances.odd));
    auto found = static_cast<std::uint32_t>(_mm256_movemask_epi8(under));
    if (valid < group_codes) found &= (1U << valid) - 1;
    std::size_t count = 0;
    for (; found != 0; found &= found - 1) {
        const auto c = static_cast<std::size_t>(__builtin_ctz(found));
        hits[count++] = (first + c) << 16 | values[c];
    }
    return count;
}

// The hits among the next `groups` groups; distances and limits are below 2^15, so signed comparison does.
template <std::size_t groups>
std::size_t nearer_in(const std::uint64_t* block, std::size_t first, std::size_t count, std::size_t words,
                      const TableBytes* query, __m256i limit, Hit* hits) {
    Distances distances[groups];
    measure<groups>(reinterpret_cast<const __m256i*>(block + first * words * 2), query, words * 8, distances);
    __m256i least = limit;
    for (const Distances& one : distances) {
        least = _mm256_min_epi16(least, _mm256_min_epi16(one.even, one.odd));
    }
    const __m256i under = _mm256_cmpgt_epi16(limit, least);
    if (_mm256_testz_si256(under, under)) return 0;
    std::size_t found = 0;
    for (std::size_t g = 0; g < groups; ++g) {
        const std::size_t start = first + g * group_codes;
        found += store_hits(distances[g], limit, start, count - start, hits + found);
    }
    return found;
}

std::size_t nearer(const std::uint64_t* block, std::size_t count, std::size_t words, const std::uint8_t* query,
                   std::uint16_t limit, Hit* hits) {
    TableBytes begins[max_bytes];
    for (std::size_t b = 0; b < words * 8; ++b) {
        begins[b] = {static_cast<std::uint8_t>(query[b] << 4), static_cast<std::uint8_t>(query[b] & 0xF0)};
    }
    const __m256i bar = _mm256_set1_epi16(static_cast<short>(limit));
    std::size_t found = 0, first = 0;
    for (; first + (tile_groups - 1) * group_codes < count; first += tile_groups * group_codes) {
        found += nearer_in<tile_groups>(block, first, count, words, begins, bar, hits + found);
    }
    for (; first < count; first += group_codes) {
        found += nearer_in<1>(block, first, count, words, begins, bar, hits + found);
    }
    return found;
}

}  // namespace

const ScanLoops scan_loops{&hamming, &below, &arrange, &nearer};

}  // namespace bowerbird::avx2
