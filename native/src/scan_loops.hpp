// The inner loops of scan, once a SIMD level.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch.hpp"

namespace bowerbird {

struct ScanLoops {
    // distances[i] = number of bits in which code i differs from the query; a code has `words` words of 64 bits.
    void (*hamming)(const std::uint8_t* codes, std::size_t count, std::size_t words, const std::uint8_t* query,
                    std::uint16_t* distances);

    // Positions i, ascending, with distances[i] < limit and bit i of mask set (null: all set); returns how many.
    // The mask has whole 64-bit words, zero beyond count.
    std::size_t (*below)(const std::uint16_t* distances, std::size_t count, std::uint16_t limit,
                         const std::uint64_t* mask, std::uint16_t* positions);
};

BOWERBIRD_LOOPS(ScanLoops, scan_loops)

}  // namespace bowerbird
