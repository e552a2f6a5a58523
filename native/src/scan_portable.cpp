#include <cstring>

#include "scan_loops.hpp"

namespace bowerbird::portable {
namespace {

// Ones in a word, by sums in ever wider fields. Compilers turn this into the processor's instruction where the target
// has one; std::popcount would call a library function where it has not (x86-64 without POPCNT).
int count_ones(std::uint64_t bits) {
    bits -= bits >> 1 & 0x5555555555555555U;
    bits = (bits & 0x3333333333333333U) + (bits >> 2 & 0x3333333333333333U);
    bits = (bits + (bits >> 4)) & 0x0F0F0F0F0F0F0F0FU;
    return static_cast<int>(bits * 0x0101010101010101U >> 56);
}

void hamming(const std::uint8_t* codes, std::size_t count, std::size_t words, const std::uint8_t* query,
             std::uint16_t* distances) {
    for (std::size_t i = 0; i < count; ++i) {
        int distance = 0;
        for (std::size_t w = 0; w < words; ++w) {
            std::uint64_t a, b;
            std::memcpy(&a, codes + (i * words + w) * 8, 8);
            std::memcpy(&b, query + w * 8, 8);
            distance += count_ones(a ^ b);
        }
        distances[i] = static_cast<std::uint16_t>(distance);
    }
}

std::size_t below(const std::uint16_t* distances, std::size_t count, std::uint16_t limit, std::uint16_t* positions) {
    std::size_t hits = 0;
    for (std::size_t i = 0; i < count; ++i) {
        positions[hits] = static_cast<std::uint16_t>(i);
        hits += static_cast<std::size_t>(distances[i] < limit);
    }
    return hits;
}

// Codes one after the other.
void arrange_codes(const std::uint8_t* codes, const std::uint16_t* positions, std::size_t count, std::size_t words,
                   std::uint64_t* block) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t position = positions == nullptr ? i : positions[i];
        std::memcpy(block + i * words, codes + position * words * 8, words * 8);
    }
}

// Queries one after the other.
void arrange_queries(const std::uint8_t* const* queries, std::size_t num_queries, std::size_t words,
                     std::uint64_t* tile) {
    for (std::size_t q = 0; q < num_queries; ++q) std::memcpy(tile + q * words, queries[q], words * 8);
}

std::size_t nearer(const TileTask& task, Hit* hits) {
    std::size_t found = 0;
    for (std::size_t i = 0; i < task.count; ++i) {
        const std::uint64_t* code = task.block + i * task.words;
        for (std::size_t q = 0; q < task.num_queries; ++q) {
            const std::uint64_t* query = task.queries + q * task.words;
            int distance = 0;
            for (std::size_t w = 0; w < task.words; ++w) distance += count_ones(code[w] ^ query[w]);
            hits[found] = q << 32 | i << 16 | static_cast<std::uint64_t>(distance);
            found += static_cast<std::size_t>(distance < task.limits[q]);
        }
    }
    return found;
}

}  // namespace

const ScanLoops scan_loops{&hamming, &below, &arrange_codes, &arrange_queries, &nearer};

}  // namespace bowerbird::portable
