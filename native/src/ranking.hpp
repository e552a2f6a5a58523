// Integers that order boxes: best score first, ties by index.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace bowerbird {

using RankKey = std::uint64_t;  // rank of the score in the high half, index in the low half; smaller is better

// Both zeros are one score.
inline std::uint32_t rank_of(float score) {
    const auto bits = std::bit_cast<std::uint32_t>(score + 0.0F);
    return (bits & 0x80000000U) != 0 ? bits : ~bits & 0x7FFFFFFFU;
}

inline RankKey rank_key(float score, std::size_t index) {
    return RankKey{rank_of(score)} << 32 | static_cast<std::uint32_t>(index);
}

inline std::uint32_t index_of(RankKey key) { return static_cast<std::uint32_t>(key); }

inline float score_of(RankKey key) {
    const auto rank = static_cast<std::uint32_t>(key >> 32);
    return std::bit_cast<float>((rank & 0x80000000U) != 0 ? rank : ~rank & 0x7FFFFFFFU);
}

// Order keys that come by ascending index: a stable radix sort of the ranks alone, a byte a pass. A byte that all keys
// share costs no pass.
inline void sort_best_first(std::vector<RankKey>& keys) {
    constexpr std::size_t passes = 4, digits = 256;
    std::array<std::array<std::uint32_t, digits>, passes> starts{};
    for (const RankKey key : keys) {
        for (std::size_t pass = 0; pass < passes; ++pass) ++starts[pass][key >> (32 + 8 * pass) & (digits - 1)];
    }
    std::vector<RankKey> sorted(keys.size());
    for (std::size_t pass = 0; pass < passes && !keys.empty(); ++pass) {
        const std::size_t shift = 32 + 8 * pass;
        if (starts[pass][keys.front() >> shift & (digits - 1)] == keys.size()) continue;
        std::uint32_t sum = 0;
        for (std::uint32_t& start : starts[pass]) sum += std::exchange(start, sum);
        for (const RankKey key : keys) sorted[starts[pass][key >> shift & (digits - 1)]++] = key;
        keys.swap(sorted);
    }
}

}  // namespace bowerbird
