// The steps of a group of walkers, taken side by side.
//
// A step is four loads, each at a random address that the one before it tells: offsets of the item, its edge, offsets
// of the board, its edge. One walker alone waits for each of them, about 100 ns in a large cache and 350 ns in memory.
// So a group of walkers goes through each of the four stages together, and each stage asks for what the next one
// reads: while the others take their turn, the data come. What binds is then how many loads a core has under way
// (16 line fill buffers since Ice Lake), not how long one takes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bowerbird/walk.hpp"

namespace bowerbird {

// A walker that has yet to go.
struct Walker {
    std::uint64_t stream;
    std::uint32_t home;   // item id
    std::uint32_t entry;  // which item of its query, the upper half of its visits' keys
    std::uint32_t steps;
};

[[noreturn]] void refuse_offsets(const Adjacency& edges, std::size_t row, const char* name);

// The number of edges of a row. Throws std::invalid_argument, naming the array, unless the row lies within the edges.
inline std::uint64_t degree_of(const Adjacency& edges, std::size_t row, const char* name) {
    const auto begin = static_cast<std::uint64_t>(edges.offsets[row]);
    const auto end = static_cast<std::uint64_t>(edges.offsets[row + 1]);
    if (begin > end || end > edges.num_edges) refuse_offsets(edges, row, name);
    return end - begin;
}

constexpr std::size_t most_lanes = 64;

// Take all steps of `count` (at most most_lanes) walkers, which come in descending order of their steps, and write the
// visits in any order, as entry << 32 | item. Returns how many there are: at most the sum of the steps.
// Throws std::invalid_argument when an offset or an id is out of range.
std::size_t take_steps(const WalkRequest& request, const Walker* walkers, std::size_t count, std::uint64_t* visits);

}  // namespace bowerbird
