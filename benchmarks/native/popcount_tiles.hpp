// The arithmetic of a Hamming scan and nothing else: distances between a block of codes that stays in the L1 cache and
// a tile of queries. Codes lie transposed (word by word, `Isa::LANES` codes side by side), so that a lane collects the
// distance of one code and nothing is summed across lanes: three operations (xor, count, add) a vector of bits.
// Included by one file an instruction set, which gives `Isa`: Vector, LANES, zero, load, broadcast, count, add, finish
// and fold.

#pragma once

#include <cstddef>
#include <cstdint>

// Word `word` of each code and query, counted. Queries come from the L1 cache, a word at a time: the barrier keeps the
// compiler from loading them all at the head of a group, where they would not fit into registers, and from counting
// once for all rounds.
template <class Isa, bool First, int Unroll, int Tile>
inline void count_word(typename Isa::Vector (&distance)[Unroll][Tile], const std::uint64_t* codes,
                       const std::uint64_t* queries, std::size_t words, std::size_t word) {
    asm volatile("" ::: "memory");
    for (int u = 0; u < Unroll; ++u) {
        const typename Isa::Vector code = Isa::load(codes + (u * words + word) * Isa::LANES);
        for (int query = 0; query < Tile; ++query) {
            const typename Isa::Vector counts = Isa::count(code, Isa::broadcast(queries + query * words + word));
            distance[u][query] = First ? counts : Isa::add(distance[u][query], counts);
        }
    }
}

// block: [groups][words][LANES]; queries: [Tile][words]; words of 64 bits. Distances to the block, `rounds` times.
template <class Isa, int Tile, int Unroll>
std::uint64_t popcount_block(const std::uint64_t* block, std::size_t groups, const std::uint64_t* queries,
                             std::size_t words, std::size_t rounds) {
    using Vector = typename Isa::Vector;
    const std::size_t stride = Unroll * words * Isa::LANES;
    const std::uint64_t* const end = block + groups / Unroll * stride;
    Vector folded[Tile];
    for (Vector& one : folded) one = Isa::zero();
    for (std::size_t round = 0; round < rounds; ++round) {
        for (const std::uint64_t* codes = block; codes != end; codes += stride) {
            Vector distance[Unroll][Tile];
            count_word<Isa, true>(distance, codes, queries, words, 0);
#pragma GCC unroll 3
            for (std::size_t word = 1; word < words; ++word) {
                count_word<Isa, false>(distance, codes, queries, words, word);
            }
            for (const auto& row : distance) {
                for (int query = 0; query < Tile; ++query) {
                    folded[query] = Isa::fold(folded[query], Isa::finish(row[query]));
                }
            }
        }
    }
    std::uint64_t sum = 0;
    for (const Vector& one : folded) {
        for (std::size_t lane = 0; lane < Isa::LANES; ++lane) sum ^= reinterpret_cast<const std::uint64_t*>(&one)[lane];
    }
    return sum;
}

// `tile` of 4, 8 or 16 queries and `unroll` of 1 or 2 groups of codes; 0 for anything else.
template <class Isa>
std::uint64_t popcount_variant(const std::uint64_t* block, std::size_t groups, const std::uint64_t* queries,
                               std::size_t words, std::size_t rounds, int tile, int unroll) {
    switch (tile * 10 + unroll) {
        case 41: return popcount_block<Isa, 4, 1>(block, groups, queries, words, rounds);
        case 42: return popcount_block<Isa, 4, 2>(block, groups, queries, words, rounds);
        case 81: return popcount_block<Isa, 8, 1>(block, groups, queries, words, rounds);
        case 82: return popcount_block<Isa, 8, 2>(block, groups, queries, words, rounds);
        case 161: return popcount_block<Isa, 16, 1>(block, groups, queries, words, rounds);
        default: return 0;
    }
}
