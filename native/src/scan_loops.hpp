// The inner loops of scan, once a SIMD level. A query alone reads the codes as they lie, for memory is its limit.
// Several queries share a block of codes that is arranged for the registers once, for counting bits is theirs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch.hpp"

namespace bowerbird {

constexpr std::size_t group_codes = 32;  // blocks are arranged in whole groups

// A code near a query: position in the block << 16 | distance.
using Hit = std::uint64_t;

struct ScanLoops {
    // distances[i] = number of bits in which code i differs from the query; a code has `words` words of 64 bits.
    void (*hamming)(const std::uint8_t* codes, std::size_t count, std::size_t words, const std::uint8_t* query,
                    std::uint16_t* distances);

    // Positions i, ascending, with distances[i] < limit; returns how many.
    std::size_t (*below)(const std::uint16_t* distances, std::size_t count, std::uint16_t limit,
                         std::uint16_t* positions);

    // Arrange codes[positions[i]] (null: codes[i]), i < count, for `nearer`; count > 0. The block takes 16 bytes a word
    // of each code, of whole groups.
    void (*arrange)(const std::uint8_t* codes, const std::uint16_t* positions, std::size_t count, std::size_t words,
                    std::uint64_t* block);

    // Hits, by ascending position, among the codes of an arranged block: distances below the limit. Returns how many;
    // there is room for 8 more than could be found.
    std::size_t (*nearer)(const std::uint64_t* block, std::size_t count, std::size_t words, const std::uint8_t* query,
                          std::uint16_t limit, Hit* hits);
};

BOWERBIRD_LOOPS(ScanLoops, scan_loops)

}  // namespace bowerbird
