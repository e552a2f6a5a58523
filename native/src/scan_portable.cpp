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
void arrange(const std::uint8_t* codes, const std::uint16_t* positions, std::size_t count, std::size_t words,
             std::uint64_t* block) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t position = positions == nullptr ? i : positions[i];
        std::memcpy(block + i * words, codes + position * words * 8, words * 8);
    }
}

std::size_t nearer(const std::uint64_t* block, std::size_t count, std::size_t words, const std::uint8_t* query,
                   std::uint16_t limit, Hit* hits) {
    std::size_t found = 0;
    for (std::size_t i = 0; i < count; ++i) {
        std::uint16_t distance;
        hamming(reinterpret_cast<const std::uint8_t*>(block + i * words), 1, words, query, &distance);
        hits[found] = i << 16 | distance;
        found += static_cast<std::size_t>(distance < limit);
    }
    return found;
}

}  // namespace

const ScanLoops scan_loops{&hamming, &below, &arrange, &nearer};

}  // namespace bowerbird::portable
