// The k smallest of a list of keys, in order, by one block of threads: radix select, then a bitonic sort of what was
// selected. It takes any k: keys that do not fit shared memory are sorted where they lie, by the same code, slower.
//
// Radix select looks at 8 bits of the keys at a time, highest first: a histogram says in which of 256 bins the k-th
// smallest lies; only that bin goes on to the next 8 bits, and none does once a bin ends at the k-th key. Scores that
// differ settle in 3 to 4 passes over keys that the first pass brought into the L1 or L2 cache. The result depends on
// the keys alone: equal ones are interchangeable, and the others are put in order. (Alabi et al., "Fast k-selection
// algorithms for graphics processors", JEA 2012; Batcher, "Sorting networks and their applications", AFIPS 1968.)
#pragma once

#include <cstddef>
#include <cstdint>

#include "launch.cuh"

namespace bowerbird::cuda {

using Key = unsigned long long;  // smaller is better; what CUDA's 64-bit atomics and shuffles take

constexpr Key no_key = ~Key{0};  // stands for nothing; behind every key
constexpr unsigned warp_lanes = 32;
constexpr unsigned every_lane = 0xFFFFFFFFU;
constexpr unsigned topk_threads = 512;
constexpr unsigned sorted_in_shared = 4096;  // keys: 32 KiB

// Keys that lie in memory.
class KeyArray {
public:
    using Count = unsigned;

    __device__ KeyArray(const Key* keys, std::size_t count) : keys_(keys), count_(count) {}

    // Calls use(key) for all of them, shared out over the threads of the block; every thread makes as many calls, with
    // no_key where there is nothing.
    template <class Use>
    __device__ void visit(const Use& use) const {
        for (std::size_t base = threadIdx.x; base < count_ + threadIdx.x; base += in_flight * topk_threads) {
            Key loaded[in_flight];
#pragma unroll
            for (unsigned j = 0; j < in_flight; ++j) {
                const std::size_t i = base + j * topk_threads;
                loaded[j] = i < count_ ? keys_[i] : no_key;
            }
#pragma unroll
            for (unsigned j = 0; j < in_flight; ++j) use(loaded[j]);
        }
    }

private:
    static constexpr unsigned in_flight = 4;  // independent loads a thread

    const Key* keys_;
    std::size_t count_;
};

// Which keys are among the k smallest: those whose bits under the mask are below the prefix, and `ties` of those where
// they are equal to it.
struct Limit {
    Key prefix, mask;
    std::size_t ties;
};

constexpr unsigned digit_bits = 8;
constexpr unsigned num_digits = 1U << digit_bits;

template <class Count>
struct Digit {
    unsigned digit;
    Count below, inside, total;  // keys in the bins before it, in it, and in all bins
};

// The bin of the wanted-th key. By one warp; the answer is where the others read it after the next barrier.
template <class Count>
__device__ void find_digit(const Count* bins, std::size_t wanted, Digit<Count>& found) {
    constexpr unsigned lane_bins = num_digits / warp_lanes;
    const unsigned lane = threadIdx.x;
    Count sum = 0;
    for (unsigned i = 0; i < lane_bins; ++i) sum += bins[lane * lane_bins + i];
    Count up_to = sum;
    for (unsigned offset = 1; offset < warp_lanes; offset *= 2) {
        const Count before = __shfl_up_sync(every_lane, up_to, offset);
        if (lane >= offset) up_to += before;
    }
    const Count total = __shfl_sync(every_lane, up_to, warp_lanes - 1);
    if (lane == 0) found.total = total;
    if (up_to < wanted || up_to - sum >= wanted) return;
    Count below = up_to - sum;
    unsigned digit = lane * lane_bins;
    while (below + bins[digit] < wanted) below += bins[digit++];
    found.digit = digit;
    found.below = below;
    found.inside = bins[digit];
}

// The limit of the `wanted` smallest keys, all of them where there are fewer. Keys have key_bits significant bits.
template <class Source>
__device__ Limit find_limit(const Source& source, std::size_t wanted, unsigned key_bits) {
    using Count = typename Source::Count;
    __shared__ Count bins[num_digits];
    __shared__ Digit<Count> found;
    Limit limit{0, 0, wanted};
    for (unsigned shift = (key_bits + digit_bits - 1) / digit_bits * digit_bits; shift > 0;) {
        shift -= digit_bits;
        for (unsigned i = threadIdx.x; i < num_digits; i += topk_threads) bins[i] = 0;
        __syncthreads();
        source.visit([&](Key key) {
            if (key == no_key || (key & limit.mask) != limit.prefix) return;
            atomicAdd(&bins[key >> shift & (num_digits - 1)], Count{1});
        });
        __syncthreads();
        if (threadIdx.x < warp_lanes) find_digit(bins, limit.ties, found);
        __syncthreads();
        if (found.total <= limit.ties) break;
        limit.prefix |= Key{found.digit} << shift;
        limit.mask |= Key{num_digits - 1} << shift;
        limit.ties -= found.below;
        if (found.inside == limit.ties) break;
    }
    __syncthreads();  // the bins and what was found may be written again
    return limit;
}

// A place of its own for each lane that takes part, from a counter in shared memory: one atomic a warp.
__device__ inline unsigned reserve(bool takes_part, unsigned* counter) {
    const unsigned takers = __ballot_sync(every_lane, takes_part);
    if (takers == 0) return 0;
    const unsigned lane = threadIdx.x % warp_lanes;
    const int leader = __ffs(static_cast<int>(takers)) - 1;
    unsigned first = 0;
    if (lane == static_cast<unsigned>(leader)) first = atomicAdd(counter, static_cast<unsigned>(__popc(takers)));
    first = __shfl_sync(every_lane, first, leader);
    return first + static_cast<unsigned>(__popc(takers & ((1U << lane) - 1)));
}

// Puts the `wanted` smallest keys in no order at selected[0 ... wanted), no_key behind them where there are fewer.
template <class Source>
__device__ void select_keys(const Source& source, unsigned wanted, unsigned key_bits, Key* selected) {
    __shared__ unsigned num_below, num_ties;
    if (threadIdx.x == 0) num_below = num_ties = 0;
    for (unsigned i = threadIdx.x; i < wanted; i += topk_threads) selected[i] = no_key;
    const Limit limit = find_limit(source, wanted, key_bits);
    const unsigned first_tie = wanted - static_cast<unsigned>(limit.ties);
    source.visit([&](Key key) {
        const Key bits = key & limit.mask;
        const bool below = key != no_key && bits < limit.prefix;
        const bool tie = key != no_key && bits == limit.prefix;
        const unsigned below_place = reserve(below, &num_below);
        const unsigned tie_place = reserve(tie, &num_ties);
        if (below) selected[below_place] = key;
        if (tie && tie_place < limit.ties) selected[first_tie + tie_place] = key;
    });
    __syncthreads();
}

// Sorts keys[0 ... count), in shared or global memory. Every comparison puts the smaller key first (the first step of a
// merge compares mirrored places), so that places beyond the end can be left out: they hold what belongs there.
__device__ inline void sort_keys(Key* keys, unsigned count) {
    unsigned size = 1;
    while (size < count) size *= 2;
    for (unsigned half = 1; half < count; half *= 2) {
        for (unsigned stride = half; stride > 0; stride /= 2) {
            for (unsigned pair = threadIdx.x; pair < size / 2; pair += topk_threads) {
                const unsigned low = 2 * pair - (pair & (stride - 1));
                const unsigned high = stride == half ? low ^ (2 * half - 1) : low + stride;
                if (high >= count) continue;
                const Key first = keys[low], second = keys[high];
                if (second < first) {
                    keys[low] = second;
                    keys[high] = first;
                }
            }
            // 32 pairs in a row lie within 64 keys as long as strides are 32 at most: then a warp has them to itself.
            const unsigned next_stride = stride > 1 ? stride / 2 : 2 * half;
            if (stride > warp_lanes || next_stride > warp_lanes) {
                __syncthreads();
            } else {
                __syncwarp();
            }
        }
    }
    __syncthreads();
}

// The `wanted` smallest keys in order, no_key behind them where there are fewer. They lie at `shared_keys`, shared
// memory for sorted_in_shared of them, or at `spilled`, memory for `wanted`, if they are more.
template <class Source>
__device__ const Key* smallest_keys(const Source& source, unsigned wanted, unsigned key_bits, Key* shared_keys,
                                    Key* spilled) {
    Key* selected = wanted <= sorted_in_shared ? shared_keys : spilled;
    select_keys(source, wanted, key_bits, selected);
    sort_keys(selected, wanted);
    return selected;
}

// Keys a query needs at `spilled`.
inline std::size_t spilled_keys(std::size_t wanted) { return wanted <= sorted_in_shared ? 0 : wanted; }

}  // namespace bowerbird::cuda
