// The inner loops of scan, once a SIMD level. A query alone reads the codes as they lie, for memory is its limit.
// Several queries share a block of codes that is arranged for the registers once, for counting bits is theirs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch.hpp"

namespace bowerbird {

constexpr std::size_t tile_queries = 4;  // compared with a group of codes while it is in registers
constexpr std::size_t group_codes = 32;  // blocks are arranged in whole groups

// A block of codes and a tile of queries, as the arrange functions of the same level left them.
struct TileTask {
    const std::uint64_t* block;
    std::size_t count;  // codes
    std::size_t words;  // of 64 bits a code
    const std::uint64_t* queries;
    std::size_t num_queries;      // 1 to tile_queries
    const std::uint16_t* limits;  // (num_queries)
};

// A hit of a tile: query << 32 | position in the block << 16 | distance.
using Hit = std::uint64_t;

struct ScanLoops {
    // distances[i] = number of bits in which code i differs from the query; a code has `words` words of 64 bits.
    void (*hamming)(const std::uint8_t* codes, std::size_t count, std::size_t words, const std::uint8_t* query,
                    std::uint16_t* distances);

    // Positions i, ascending, with distances[i] < limit; returns how many.
    std::size_t (*below)(const std::uint16_t* distances, std::size_t count, std::uint16_t limit,
                         std::uint16_t* positions);

    // Arrange codes[positions[i]] (null: codes[i]), i < count, count > 0. The block takes 16 bytes a word of each code,
    // of whole groups.
    void (*arrange_codes)(const std::uint8_t* codes, const std::uint16_t* positions, std::size_t count,
                          std::size_t words, std::uint64_t* block);

    // Arrange a tile of queries; it takes 16 bytes a word of each.
    void (*arrange_queries)(const std::uint8_t* const* queries, std::size_t num_queries, std::size_t words,
                            std::uint64_t* tile);

    // Hits with a distance below the query's limit, those of a query by ascending position; returns how many.
    // The hits have room for 8 more than could be found.
    std::size_t (*nearer)(const TileTask& task, Hit* hits);
};

BOWERBIRD_LOOPS(ScanLoops, scan_loops)

}  // namespace bowerbird
