#include <bit>
#include <cstring>

#include "kernels.hpp"

namespace bowerbird::portable {

void hamming(const std::uint8_t* codes, std::size_t count, std::size_t words, const std::uint8_t* query,
             std::uint16_t* distances) {
    for (std::size_t i = 0; i < count; ++i) {
        int distance = 0;
        for (std::size_t w = 0; w < words; ++w) {
            std::uint64_t a, b;
            std::memcpy(&a, codes + (i * words + w) * 8, 8);
            std::memcpy(&b, query + w * 8, 8);
            distance += std::popcount(a ^ b);
        }
        distances[i] = static_cast<std::uint16_t>(distance);
    }
}

std::size_t below(const std::uint16_t* distances, std::size_t count, std::uint16_t limit, const std::uint64_t* mask,
                  std::uint16_t* positions) {
    std::size_t hits = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const bool allowed = mask == nullptr || (mask[i / 64] >> i % 64 & 1) != 0;
        positions[hits] = static_cast<std::uint16_t>(i);
        hits += static_cast<std::size_t>(allowed && distances[i] < limit);
    }
    return hits;
}

}  // namespace bowerbird::portable
