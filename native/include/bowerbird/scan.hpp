// Hamming scan of packed binary codes with fused bounded top-k.
// Legend: N codes, Q queries, W bytes a code, k results a query.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bowerbird {

constexpr std::size_t min_code_bytes = 8;    // 64 bits
constexpr std::size_t max_code_bytes = 512;  // 4096 bits: a distance fits 16 bits

struct ScanRequest {
    const std::uint8_t* codes;    // (N, W)
    std::size_t num_codes;        // N < 2^48
    std::size_t code_bytes;       // W, a multiple of 8 in [min_code_bytes, max_code_bytes]
    const std::uint8_t* queries;  // (Q, W)
    std::size_t num_queries;
    const std::uint8_t* mask;  // (ceil(N / 8)), bit i % 8 of byte i / 8 lets code i in; null lets all in
    std::size_t k;             // >= 1
    std::size_t num_threads;   // >= 1
};

// Fill distances (Q, k) and indices (Q, k): nearest first, ties keep the lower index, -1 where there are fewer than k.
void scan(const ScanRequest& request, std::int32_t* distances, std::int64_t* indices);

}  // namespace bowerbird
