// The arithmetic of a Hamming scan and nothing else: distances between a block of codes that stays in the L1 cache and
// a tile of queries. Codes lie transposed (word by word, `Isa::LANES` codes side by side), so that a lane collects the
// distance of one code and nothing is summed across lanes: three operations (xor, count, add) a vector of bits.
// Included by one file an instruction set, which gives `Isa`: Vector, LANES, load, broadcast, zero, add_bits, finish, fold.

#pragma once

#include <cstddef>
#include <cstdint>

// Words of 64 bits a code; 0: known only at run time.
template <class Isa, int Tile, int Unroll, int Words>
std::uint64_t popcount_block(const std::uint64_t* block, std::size_t groups, const std::uint64_t* queries,
                             std::size_t words, std::size_t rounds) {
    using Vector = typename Isa::Vector;
    const std::size_t length = Words != 0 ? Words : words;
    Vector folded[Tile];
    for (Vector& one : folded) one = Isa::zero();
    for (std::size_t round = 0; round < rounds; ++round) {
        for (std::size_t group = 0; group + Unroll <= groups; group += Unroll) {
            const std::uint64_t* codes = block + group * length * Isa::LANES;
            Vector distance[Unroll][Tile];
#pragma GCC unroll 4
            for (int u = 0; u < Unroll; ++u) {
#pragma GCC unroll 16
                for (int query = 0; query < Tile; ++query) distance[u][query] = Isa::zero();
            }
#pragma GCC unroll 16
            for (std::size_t word = 0; word < length; ++word) {
#pragma GCC unroll 4
                for (int u = 0; u < Unroll; ++u) {
                    const Vector code = Isa::load(codes + (u * length + word) * Isa::LANES);
#pragma GCC unroll 16
                    for (int query = 0; query < Tile; ++query) {
                        const Vector bits = Isa::broadcast(queries + query * length + word);
                        distance[u][query] = Isa::add_bits(distance[u][query], code, bits);
                    }
                }
            }
#pragma GCC unroll 4
            for (int u = 0; u < Unroll; ++u) {
#pragma GCC unroll 16
                for (int query = 0; query < Tile; ++query) {
                    folded[query] = Isa::fold(folded[query], Isa::finish(distance[u][query]));
                }
            }
        }
        asm volatile("" ::: "memory");  // the next round counts again
    }
    std::uint64_t sum = 0;
    for (const Vector& one : folded) {
        for (std::size_t lane = 0; lane < Isa::LANES; ++lane) sum ^= reinterpret_cast<const std::uint64_t*>(&one)[lane];
    }
    return sum;
}

template <class Isa, int Tile, int Unroll>
std::uint64_t popcount_words(const std::uint64_t* block, std::size_t groups, const std::uint64_t* queries,
                             std::size_t words, std::size_t rounds) {
    switch (words) {
        case 4: return popcount_block<Isa, Tile, Unroll, 4>(block, groups, queries, words, rounds);
        case 16: return popcount_block<Isa, Tile, Unroll, 16>(block, groups, queries, words, rounds);
        default: return popcount_block<Isa, Tile, Unroll, 0>(block, groups, queries, words, rounds);
    }
}

// `tile` of 4, 8 or 16 queries and `unroll` of 1 or 2 groups of codes; 0 for anything else.
template <class Isa>
std::uint64_t popcount_variant(const std::uint64_t* block, std::size_t groups, const std::uint64_t* queries,
                               std::size_t words, std::size_t rounds, int tile, int unroll) {
    switch (tile * 10 + unroll) {
        case 41: return popcount_words<Isa, 4, 1>(block, groups, queries, words, rounds);
        case 42: return popcount_words<Isa, 4, 2>(block, groups, queries, words, rounds);
        case 81: return popcount_words<Isa, 8, 1>(block, groups, queries, words, rounds);
        case 82: return popcount_words<Isa, 8, 2>(block, groups, queries, words, rounds);
        case 161: return popcount_words<Isa, 16, 1>(block, groups, queries, words, rounds);
        default: return 0;
    }
}
