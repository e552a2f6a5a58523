// Hamming distances on a GPU: of one block's share of the codes to its queries.
//
// A code is spread over as many lanes as it has 32 bytes (two loads of 16 bytes a lane, a warp reads 1 KB without
// gaps), each lane keeps its part of 8 queries in 64 registers, and partial distances of two queries travel in one word
// through the shuffles: 3 to 5 for 8 queries. A single query leaves room for 4 codes in flight a lane: 4 KB a warp,
// 64 KB a multiprocessor, where Little's law asks for 26.
// Codes whose address or length is no multiple of 16 bytes are read word by word, query by query: right, and slower.
#pragma once

#include <cstddef>
#include <cstdint>

#include "topk.cuh"

namespace bowerbird::cuda {

constexpr unsigned scan_threads = 128;
constexpr unsigned scan_warps = scan_threads / warp_lanes;

// What is scanned, for what; see ScanRequest.
struct ScanInput {
    const std::uint8_t* codes;
    std::size_t num_codes;
    unsigned code_bytes;
    const std::uint8_t* queries;
    std::size_t num_queries;
    const std::uint8_t* mask;
    const std::int64_t* list_offsets;  // null: all codes
    std::size_t num_lists;
    const std::int64_t* probes;
    std::size_t num_probes;
};

// ---- what codes a query looks at ----

struct Range {
    std::size_t begin, end;
};

__device__ inline std::size_t cut_offset(const ScanInput& input, std::int64_t offset) {
    if (offset < 0) return 0;
    return static_cast<std::size_t>(offset) < input.num_codes ? static_cast<std::size_t>(offset) : input.num_codes;
}

__device__ inline Range list_range(const ScanInput& input, std::int64_t list) {
    if (list < 0 || static_cast<std::size_t>(list) >= input.num_lists) return {0, 0};
    return {cut_offset(input, input.list_offsets[list]), cut_offset(input, input.list_offsets[list + 1])};
}

// The codes of a query's probe-th list, none if it was named before. The whole block asks for the same one.
__device__ inline Range probe_range(const ScanInput& input, std::size_t query, std::size_t probe) {
    const std::int64_t* probes = input.probes + query * input.num_probes;
    bool named_before = false;
    for (std::size_t p = threadIdx.x; p < probe; p += blockDim.x) named_before |= probes[p] == probes[probe];
    if (__syncthreads_or(named_before)) return {0, 0};
    return list_range(input, probes[probe]);
}

__device__ inline bool let_in(const ScanInput& input, std::size_t index) {
    return input.mask == nullptr || (input.mask[index / 8] >> index % 8 & 1) != 0;
}

// ---- bits ----

// A word from any address.
__device__ inline unsigned load_word(const std::uint8_t* bytes) {
    if (reinterpret_cast<std::uintptr_t>(bytes) % 4 == 0) return __ldg(reinterpret_cast<const unsigned*>(bytes));
    return bytes[0] | unsigned{bytes[1]} << 8 | unsigned{bytes[2]} << 16 | unsigned{bytes[3]} << 24;
}

template <unsigned words>
struct Slice {
    unsigned word[words];
};

// The lane's part of a code, zero from the limit on, which is the end of the code, or 0 where there is none. `whole`:
// the code stands where loads of 16 bytes can take it, or of 8 if it has no more, and is a multiple of that long.
template <unsigned words, bool whole>
__device__ Slice<words> load_slice(const std::uint8_t* code, unsigned lane, unsigned limit) {
    Slice<words> slice{};
    const unsigned begin = lane * words * 4;
    if constexpr (!whole) {
        for (unsigned i = 0; i < words; ++i) {
            if (begin + 4 * i < limit) slice.word[i] = load_word(code + begin + 4 * i);
        }
    } else if constexpr (words == 2) {
        if (begin < limit) {
            const uint2 pair = __ldg(reinterpret_cast<const uint2*>(code + begin));
            slice.word[0] = pair.x;
            slice.word[1] = pair.y;
        }
    } else {
#pragma unroll
        for (unsigned i = 0; i < words; i += 4) {
            if (begin + 4 * i >= limit) continue;
            const uint4 quad = __ldg(reinterpret_cast<const uint4*>(code + begin + 4 * i));
            slice.word[i] = quad.x;
            slice.word[i + 1] = quad.y;
            slice.word[i + 2] = quad.z;
            slice.word[i + 3] = quad.w;
        }
    }
    return slice;
}

struct Sum {
    unsigned sum, carry;
};

__device__ inline Sum add_bits(unsigned a, unsigned b, unsigned c) { return {a ^ b ^ c, (a & b) | (c & (a ^ b))}; }

__device__ inline unsigned count_bits(unsigned word) { return static_cast<unsigned>(__popc(word)); }

__device__ inline unsigned distance_of(const Slice<2>& a, const Slice<2>& b) {
    return count_bits(a.word[0] ^ b.word[0]) + count_bits(a.word[1] ^ b.word[1]);
}

__device__ inline unsigned distance_of(const Slice<4>& a, const Slice<4>& b) {
    const Sum ones = add_bits(a.word[0] ^ b.word[0], a.word[1] ^ b.word[1], a.word[2] ^ b.word[2]);
    return 2 * count_bits(ones.carry) + count_bits(ones.sum) + count_bits(a.word[3] ^ b.word[3]);
}

__device__ inline unsigned distance_of(const Slice<8>& a, const Slice<8>& b) {
    const Sum first = add_bits(a.word[0] ^ b.word[0], a.word[1] ^ b.word[1], a.word[2] ^ b.word[2]);
    const Sum second = add_bits(a.word[3] ^ b.word[3], a.word[4] ^ b.word[4], a.word[5] ^ b.word[5]);
    const Sum ones = add_bits(first.sum, second.sum, a.word[6] ^ b.word[6]);
    const Sum twos = add_bits(first.carry, second.carry, ones.carry);
    return 4 * count_bits(twos.carry) + 2 * count_bits(twos.sum) + count_bits(ones.sum) +
           count_bits(a.word[7] ^ b.word[7]);
}

// ---- one block over a range of codes ----

// A way to lay codes and queries over the lanes of a warp.
template <unsigned words_, unsigned code_lanes_, unsigned tile_, bool whole_>
struct Mapping {
    static constexpr unsigned words = words_;            // of a code a lane
    static constexpr unsigned code_lanes = code_lanes_;  // lanes a code
    static constexpr unsigned tile = tile_;              // queries
    static constexpr bool whole = whole_;                // loads of 16 bytes
    static constexpr unsigned codes_in_flight = tile == 1 ? 4 : 2;
    static constexpr unsigned group_codes = warp_lanes / code_lanes;  // of a warp at once
    static constexpr unsigned stretch = codes_in_flight * group_codes;
    static constexpr unsigned packs = (tile + 1) / 2;  // words with two distances each
    static constexpr unsigned held = packs > code_lanes ? packs / code_lanes : 1;  // of them in a lane, once reduced
};

// Adds up the partial distances of a code's lanes. While a lane has several words, it hands over the half of them that
// its neighbour will hold; lanes that end up with the same word hold the same.
template <class M>
__device__ void reduce(unsigned (&packed)[M::packs]) {
    unsigned held = M::packs;
#pragma unroll
    for (unsigned distance = 1; distance < M::code_lanes; distance *= 2) {
        if (held == 1) {
            packed[0] += __shfl_xor_sync(every_lane, packed[0], static_cast<int>(distance));
            continue;
        }
        held /= 2;
        const bool upper = (threadIdx.x & distance) != 0;
#pragma unroll
        for (unsigned i = 0; i < M::packs; ++i) {
            if (i >= held) break;
            const unsigned given = upper ? packed[i] : packed[i + held];
            const unsigned kept = upper ? packed[i + held] : packed[i];
            packed[i] = kept + __shfl_xor_sync(every_lane, given, static_cast<int>(distance));
        }
    }
}

// The first word of distances that a lane holds then.
template <class M>
__device__ unsigned first_pack() {
    unsigned held = M::packs, first = 0;
#pragma unroll
    for (unsigned distance = 1; distance < M::code_lanes; distance *= 2) {
        if (held == 1) break;
        held /= 2;
        if ((threadIdx.x & distance) != 0) first += held;
    }
    return first;
}

// What one block works on.
struct Work {
    std::size_t first_query;
    unsigned num_queries;  // of the tile, the others are not there
    Range range;
};

// Grid: x is a tile of queries, or a query's probe; y is one of the parts that share its codes.
template <class M>
__device__ Work work_of(const ScanInput& input) {
    if (input.list_offsets != nullptr) {
        const std::size_t query = blockIdx.x / input.num_probes;
        return {query, 1, probe_range(input, query, blockIdx.x % input.num_probes)};
    }
    const std::size_t first = std::size_t{blockIdx.x} * M::tile, left = input.num_queries - first;
    return {first, left < M::tile ? static_cast<unsigned>(left) : M::tile, {0, input.num_codes}};
}

// Calls use(index, let_in, packed) for every step-th stretch of codes of the block's part; packed[i] has the distances
// to queries 2 * (first_pack() + i) and the one after it, in its low and its high half. All lanes of a warp call
// together, also for codes beyond the end, which have index == range.end.
template <class M, class Use>
__device__ void visit_codes(const ScanInput& input, const Work& work, std::size_t step, const Use& use) {
    const unsigned lane = threadIdx.x % M::code_lanes, group = threadIdx.x % warp_lanes / M::code_lanes;
    Slice<M::words> queries[M::tile];
#pragma unroll
    for (unsigned q = 0; q < M::tile; ++q) {
        const std::size_t query = work.first_query + (q < work.num_queries ? q : 0);
        queries[q] = load_slice<M::words, M::whole>(input.queries + query * input.code_bytes, lane, input.code_bytes);
    }
    const std::size_t warp = std::size_t{blockIdx.y} * scan_warps + threadIdx.x / warp_lanes;
    const std::size_t jump = std::size_t{gridDim.y} * scan_warps * step * M::stretch, end = work.range.end;
    for (std::size_t base = work.range.begin + warp * step * M::stretch; base < end; base += jump) {
        Slice<M::words> slices[M::codes_in_flight];
        bool wanted[M::codes_in_flight];
#pragma unroll
        for (unsigned c = 0; c < M::codes_in_flight; ++c) {
            const std::size_t index = base + c * M::group_codes + group;
            wanted[c] = index < end && let_in(input, index);
        }
#pragma unroll
        for (unsigned c = 0; c < M::codes_in_flight; ++c) {  // nothing in between, so that all are on their way at once
            const std::uint8_t* code = input.codes + (base + c * M::group_codes + group) * input.code_bytes;
            slices[c] = load_slice<M::words, M::whole>(code, lane, wanted[c] ? input.code_bytes : 0);
        }
#pragma unroll
        for (unsigned c = 0; c < M::codes_in_flight; ++c) {
            unsigned packed[M::packs];
#pragma unroll
            for (unsigned p = 0; p < M::packs; ++p) {
                packed[p] = distance_of(slices[c], queries[2 * p]);
                if (M::tile > 1) packed[p] |= distance_of(slices[c], queries[(2 * p + 1) % M::tile]) << 16;
            }
            reduce<M>(packed);
            const std::size_t index = base + c * M::group_codes + group;
            use(index < end ? index : end, wanted[c], packed);
        }
    }
}

}  // namespace bowerbird::cuda
