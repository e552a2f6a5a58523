// A stable radix sort of the rows of a matrix, one launch a byte.
// Legend: B rows, N entries a row, tile: 1,024 entries of a row, the share of one block.
//
// Where an entry goes is the number of entries of its row with a smaller byte, plus that of equal ones before it: in
// earlier tiles, in earlier warps of the tile, and in the warp. The counts by tile and byte must be there before a pass
// starts; so each pass counts for the next one while it scatters: it knows to which tile an entry goes and what its
// next byte is, and adds 1 to a counter in the L2 cache (160,000 additions without an answer are some 2 us on an H200).
// That saves a launch a pass and, against decoupled look-back, all waiting between blocks. Every block adds up the
// counts of all tiles itself: 256 threads, one a byte, read 4 bytes from each tile: 20 loads for 20,000 entries, and a
// quadratic term that is felt beyond a million.
// (Merrill and Grimshaw, "High performance and scalable radix sorting", Parallel Processing Letters, 2011; Adinets and
// Merrill, "Onesweep", 2022, for ranks within a warp by ballots.)
#pragma once

#include "topk.cuh"

namespace bowerbird::cuda {

constexpr unsigned sort_threads = num_digits;  // a thread a value of the byte
constexpr unsigned sort_warps = sort_threads / warp_lanes;
constexpr unsigned thread_entries = 4;
constexpr unsigned warp_entries = thread_entries * warp_lanes;
constexpr unsigned tile_entries = sort_warps * warp_entries;
constexpr unsigned no_digit = num_digits;  // of an entry that goes nowhere

struct Rows {
    unsigned length;  // N
    unsigned tiles;   // of a row

    explicit Rows(std::size_t length_)
        : length(static_cast<unsigned>(length_)),
          tiles(static_cast<unsigned>((length_ + tile_entries - 1) / tile_entries)) {}

    // Counters of all tiles of all rows: (B, tiles, num_digits).
    std::size_t counters(std::size_t num_rows) const { return num_rows * tiles * num_digits; }
};

struct Tile {
    unsigned row, number;
    std::size_t first_entry;    // of the row
    std::size_t first_counter;  // of the row

    __device__ explicit Tile(const Rows& rows)
        : row(blockIdx.x / rows.tiles),
          number(blockIdx.x % rows.tiles),
          first_entry(std::size_t{row} * rows.length),
          first_counter(std::size_t{row} * rows.tiles * num_digits) {}
};

// Sum over the threads before this one, and over all of the block; of sort_threads threads.
struct Sums {
    unsigned before, all;
};
__device__ inline Sums sums_of(unsigned value, unsigned (&of_warps)[sort_warps]) {
    const unsigned lane = threadIdx.x % warp_lanes, warp = threadIdx.x / warp_lanes;
    unsigned up_to = value;
    for (unsigned offset = 1; offset < warp_lanes; offset *= 2) {
        const unsigned other = __shfl_up_sync(every_lane, up_to, offset);
        if (lane >= offset) up_to += other;
    }
    if (lane == warp_lanes - 1) of_warps[warp] = up_to;
    __syncthreads();
    Sums sums{up_to - value, 0};
    for (unsigned i = 0; i < sort_warps; ++i) {
        if (i < warp) sums.before += of_warps[i];
        sums.all += of_warps[i];
    }
    __syncthreads();  // of_warps may be written again
    return sums;
}

// Lanes with the same digit as this one.
__device__ inline unsigned lanes_with(unsigned digit) {
    unsigned same = every_lane;
#pragma unroll
    for (unsigned bit = 0; bit <= digit_bits; ++bit) {
        const bool set = (digit >> bit & 1) != 0;
        const unsigned lanes = __ballot_sync(every_lane, set);
        same &= set ? lanes : ~lanes;
    }
    return same;
}

// What a thread learns of its digit, threadIdx.x: how many entries of the row have it, and where they start.
struct DigitRange {
    unsigned start, count;
};

// Calls put(place, entry, position) for the entries of the tile, with the place they have in the order of their digits.
template <class DigitOf, class Put>
__device__ DigitRange scatter_tile(const Rows& rows, const Tile& tile, const Key* entries, const unsigned* counts,
                                   const DigitOf& digit_of, const Put& put) {
    __shared__ unsigned of_warps[sort_warps], places[sort_warps][num_digits];
    const unsigned thread = threadIdx.x, lane = thread % warp_lanes, warp = thread / warp_lanes;
    const unsigned first = tile.number * tile_entries + warp * warp_entries + lane;
    Key entry[thread_entries];
    unsigned digit[thread_entries], rank[thread_entries];
#pragma unroll
    for (unsigned i = 0; i < thread_entries; ++i) {
        const unsigned position = first + i * warp_lanes;
        entry[i] = position < rows.length ? entries[tile.first_entry + position] : no_key;
    }
    unsigned before = 0, all = 0;
#pragma unroll 8
    for (unsigned i = 0; i < rows.tiles; ++i) {
        const unsigned count = counts[tile.first_counter + std::size_t{i} * num_digits + thread];
        if (i < tile.number) before += count;
        all += count;
    }
    for (unsigned i = lane; i < num_digits; i += warp_lanes) places[warp][i] = 0;
    __syncwarp();
#pragma unroll
    for (unsigned i = 0; i < thread_entries; ++i) {
        digit[i] = first + i * warp_lanes < rows.length ? digit_of(tile.row, entry[i]) : no_digit;
    }
#pragma unroll
    for (unsigned i = 0; i < thread_entries; ++i) {
        const unsigned same = lanes_with(digit[i]);
        const unsigned earlier = static_cast<unsigned>(__popc(same & ((1U << lane) - 1)));
        if (digit[i] != no_digit) rank[i] = places[warp][digit[i]] + earlier;
        __syncwarp();
        if (digit[i] != no_digit && earlier == 0) places[warp][digit[i]] += static_cast<unsigned>(__popc(same));
        __syncwarp();
    }

    const unsigned start = sums_of(all, of_warps).before;
    unsigned next = start + before;
    for (unsigned i = 0; i < sort_warps; ++i) {
        const unsigned count = places[i][thread];
        places[i][thread] = next;
        next += count;
    }
    __syncthreads();
#pragma unroll
    for (unsigned i = 0; i < thread_entries; ++i) {
        if (digit[i] != no_digit) put(places[warp][digit[i]] + rank[i], entry[i], first + i * warp_lanes);
    }
    return {start, all};
}

struct ByteOf {
    unsigned shift;

    __device__ unsigned operator()(unsigned, Key entry) const {
        return static_cast<unsigned>(entry >> shift) & (num_digits - 1);
    }
};

// One pass over the bytes at `shift`, counting the digits of the next.
template <class NextDigitOf>
__global__ void __launch_bounds__(sort_threads)
    sort_by_byte(const Rows rows, const ByteOf byte_of, const Key* entries, const unsigned* counts,
                 const NextDigitOf next_digit_of, Key* sorted, unsigned* next_counts) {
    const Tile tile(rows);
    scatter_tile(rows, tile, entries, counts, byte_of, [&](unsigned place, Key entry, unsigned) {
        sorted[tile.first_entry + place] = entry;
        const unsigned digit = next_digit_of(tile.row, entry);
        if (digit == no_digit) return;
        atomicAdd(next_counts + tile.first_counter + std::size_t{place / tile_entries} * num_digits + digit, 1U);
    });
}

}  // namespace bowerbird::cuda
