// Hamming scan of packed binary codes with fused bounded top-k, over all codes or by lists (an inverted file).
// Legend: N codes, Q queries, W bytes a code, L lists, P probes a query, k results a query.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bowerbird/device.hpp"

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
    const std::int64_t* ids;   // (N), given back in place of positions; null gives back positions

    // List l holds the codes list_offsets[l] ... list_offsets[l + 1] - 1, and query q looks at the lists of its row of
    // probes alone: -1 is skipped, and a list named twice is scanned once. Both null: every query looks at all codes.
    const std::int64_t* list_offsets;  // (L + 1), ascending from 0 to N
    std::size_t num_lists;
    const std::int64_t* probes;  // (Q, P), each -1 or a list
    std::size_t num_probes;

    std::size_t k;            // >= 1
    std::size_t num_threads;  // >= 1; means nothing on a device
};

// Fill distances (Q, k) and indices (Q, k): nearest first, ties keep the lower position, -1 where there are fewer than
// k. Throws std::invalid_argument when list_offsets or probes hold something else than they should.
void scan(const ScanRequest& request, std::int32_t* distances, std::int64_t* indices);

namespace cuda {

// Upper bound from the shapes alone.
std::size_t scan_scratch_bytes(const ScanRequest& request);

// The same for arrays on the device. A probe that is no list is skipped, and of a list the part that lies within the
// codes is scanned.
void scan(const ScanRequest& request, const DeviceContext& context, std::int32_t* distances, std::int64_t* indices);

}  // namespace cuda
}  // namespace bowerbird
