// The arithmetic that defines a walk, the same on the CPU and on a device: integers only where an edge is chosen, so
// that every version takes exactly the same steps. See walk.hpp for how these parts make a walk.
#pragma once

#include <cstdint>

namespace bowerbird::walk_rules {

constexpr std::uint64_t steps_a_walker = 128;  // then a new walker starts at the query item
constexpr std::uint64_t walkers_a_check = 64;  // of one item between two looks at the early stop
constexpr std::uint64_t golden = 0x9E3779B97F4A7C15;
constexpr std::uint64_t coin_mask = 0x7FFFFFFF;   // a coin is 31 bits, so that thresholds are positive int32
constexpr int log_bits = 10;                      // of the fraction of log2_fixed
constexpr std::uint64_t log2_e = 1477;            // 1 nat in that unit
constexpr std::uint64_t most_degree = 0x7FFFFFFF;

// The finalizer of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
constexpr std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
}

constexpr std::uint64_t fold(std::uint64_t hash, std::uint64_t value) { return mix((hash ^ value) + golden); }

// Where the stream of random numbers of a walker begins; `draw` reads it.
constexpr std::uint64_t stream_of(std::uint64_t seed, std::uint64_t item, std::uint64_t walker) {
    return fold(fold(fold(0, seed), item), walker);
}

enum Draw : std::uint64_t { board_draw = 1, item_draw = 2, restart_draw = 3, draws_a_step = 3 };

// 64 random bits: the high half chooses a slot or compares with the restart threshold, the low half is a coin.
constexpr std::uint64_t draw(std::uint64_t stream, Draw which) { return mix(stream + which * golden); }

constexpr std::uint64_t advance(std::uint64_t stream) { return stream + draws_a_step * golden; }

// 0 to degree - 1, each with probability 1 / degree to within 2^-32.
constexpr std::uint64_t slot_of(std::uint64_t bits, std::uint64_t degree) { return ((bits >> 32) * degree) >> 32; }

// True with probability threshold / 2^31.
constexpr bool keeps_slot(std::uint64_t bits, std::int32_t threshold) {
    return static_cast<std::int32_t>(bits & coin_mask) < threshold;
}

// threshold is the probability times 2^32; 2^32 itself restarts always.
constexpr bool restarts(std::uint64_t bits, std::uint64_t threshold) { return bits >> 32 < threshold; }

// log2(value) * 2^10, by squaring the mantissa once a bit of the fraction; value >= 1.
constexpr std::uint64_t log2_fixed(std::uint64_t value) {
    std::uint64_t log = 0;
    std::uint64_t mantissa = value < most_degree ? value : most_degree;
    while (mantissa >> 31 == 0) {  // to [2^31, 2^32): 1 to 2 in units of 2^-31
        mantissa <<= 1;
        ++log;
    }
    log = 31 - log;
    for (int bit = 0; bit < log_bits; ++bit) {
        mantissa = (mantissa * mantissa) >> 31;
        const std::uint64_t carry = mantissa >> 32;
        mantissa >>= carry;
        log = 2 * log + carry;
    }
    return log;
}

// What an item of this degree weighs in the split of the budget; 0 without edges. Exact as a double: below 2^31 * 2^16.
constexpr std::uint64_t share_of(std::uint64_t degree, std::uint64_t max_degree) {
    if (degree == 0) return 0;
    const std::uint64_t capped = degree < most_degree ? degree : most_degree;
    const std::uint64_t largest = max_degree > capped ? max_degree : capped;
    return capped * (log2_e + log2_fixed(largest) - log2_fixed(capped));
}

}  // namespace bowerbird::walk_rules
