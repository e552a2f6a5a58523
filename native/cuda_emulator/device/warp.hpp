// Warp operations: each lane brings a value, and computes its own answer from what all lanes of the mask brought.
#pragma once

#include <bit>
#include <cstring>

#include "threads.hpp"

namespace cuda_emulator {

template <class T>
std::uint64_t to_word(T value) {
    static_assert(sizeof(T) <= sizeof(std::uint64_t), "warp operations take up to 64 bits");
    std::uint64_t word = 0;
    std::memcpy(&word, &value, sizeof(T));
    return word;
}

template <class T>
T from_word(std::uint64_t word) {
    T value;
    std::memcpy(&value, &word, sizeof(T));
    return value;
}

// The value of a lane; garbage for a lane that took no part.
template <class T>
T value_of(const Exchange& exchange, unsigned source) {
    if ((exchange.present >> source & 1) != 0) return from_word<T>(exchange.values[source]);
    T value;
    fill_garbage(&value, sizeof(T));
    return value;
}

inline void check_width(int width, const Where& where) {
    if (width < 1 || width > warpSize || !std::has_single_bit(static_cast<unsigned>(width))) {
        fail("shuffle width " + std::to_string(width) + ", expected 1, 2, 4, 8, 16 or 32", where);
    }
}

template <class T, class Reduce>
T reduce(const Exchange& exchange, Reduce combine) {
    unsigned left = exchange.present;
    T sum = from_word<T>(exchange.values[std::countr_zero(left)]);
    while ((left &= left - 1) != 0) sum = combine(sum, from_word<T>(exchange.values[std::countr_zero(left)]));
    return sum;
}

template <class Test>
unsigned lanes_where(const Exchange& exchange, Test test) {
    unsigned lanes = 0;
    for (unsigned left = exchange.present; left != 0; left &= left - 1) {
        const int source = std::countr_zero(left);
        if (test(exchange.values[source])) lanes |= 1U << source;
    }
    return lanes;
}

inline unsigned ballot(const char* operation, unsigned mask, int vote, const Where& where) {
    const Exchange& exchange = warp_exchange(operation, mask, vote != 0, where);
    return lanes_where(exchange, [](std::uint64_t value) { return value != 0; });
}

}  // namespace cuda_emulator

inline void __syncwarp(unsigned mask = cuda_emulator::all_lanes,
                       const cuda_emulator::Where& where = cuda_emulator::Where::current()) {
    cuda_emulator::warp_exchange("__syncwarp", mask, 0, where);
}

// The lanes that happen to run together: any set with the caller in it is legal, the smallest shows most faults.
inline unsigned __activemask() { return 1U << cuda_emulator::lane(); }

// ---- shuffles ----

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize,
              const cuda_emulator::Where& where = cuda_emulator::Where::current()) {
    cuda_emulator::check_width(width, where);
    const auto& exchange = cuda_emulator::warp_exchange("__shfl_sync", mask, cuda_emulator::to_word(value), where);
    const int first = static_cast<int>(cuda_emulator::lane()) & ~(width - 1);
    return cuda_emulator::value_of<T>(exchange, static_cast<unsigned>(first + (source & (width - 1))));
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                 const cuda_emulator::Where& where = cuda_emulator::Where::current()) {
    cuda_emulator::check_width(width, where);
    const auto& exchange = cuda_emulator::warp_exchange("__shfl_up_sync", mask, cuda_emulator::to_word(value), where);
    const unsigned lane = cuda_emulator::lane();
    const unsigned in_segment = lane & static_cast<unsigned>(width - 1);
    return delta > in_segment ? value : cuda_emulator::value_of<T>(exchange, lane - delta);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                   const cuda_emulator::Where& where = cuda_emulator::Where::current()) {
    cuda_emulator::check_width(width, where);
    const auto& exchange = cuda_emulator::warp_exchange("__shfl_down_sync", mask, cuda_emulator::to_word(value), where);
    const unsigned lane = cuda_emulator::lane();
    const unsigned behind = static_cast<unsigned>(width - 1) - (lane & static_cast<unsigned>(width - 1));
    return delta > behind ? value : cuda_emulator::value_of<T>(exchange, lane + delta);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize,
                  const cuda_emulator::Where& where = cuda_emulator::Where::current()) {
    cuda_emulator::check_width(width, where);
    const auto& exchange = cuda_emulator::warp_exchange("__shfl_xor_sync", mask, cuda_emulator::to_word(value), where);
    const unsigned lane = cuda_emulator::lane();
    const unsigned source = lane ^ static_cast<unsigned>(lane_mask);
    // A later segment cannot be read, an earlier one can.
    return source > (lane | static_cast<unsigned>(width - 1)) ? value : cuda_emulator::value_of<T>(exchange, source);
}

// ---- votes and matches ----

inline unsigned __ballot_sync(unsigned mask, int vote,
                              const cuda_emulator::Where& where = cuda_emulator::Where::current()) {
    return cuda_emulator::ballot("__ballot_sync", mask, vote, where);
}
inline int __any_sync(unsigned mask, int vote, const cuda_emulator::Where& where = cuda_emulator::Where::current()) {
    return cuda_emulator::ballot("__any_sync", mask, vote, where) != 0;
}
inline int __all_sync(unsigned mask, int vote, const cuda_emulator::Where& where = cuda_emulator::Where::current()) {
    return cuda_emulator::ballot("__all_sync", mask, vote == 0, where) == 0;
}

template <class T>
unsigned __match_any_sync(unsigned mask, T value,
                          const cuda_emulator::Where& where = cuda_emulator::Where::current()) {
    const std::uint64_t mine = cuda_emulator::to_word(value);
    const auto& exchange = cuda_emulator::warp_exchange("__match_any_sync", mask, mine, where);
    return cuda_emulator::lanes_where(exchange, [mine](std::uint64_t other) { return other == mine; });
}

template <class T>
unsigned __match_all_sync(unsigned mask, T value, int* all_match,
                          const cuda_emulator::Where& where = cuda_emulator::Where::current()) {
    const std::uint64_t mine = cuda_emulator::to_word(value);
    const auto& exchange = cuda_emulator::warp_exchange("__match_all_sync", mask, mine, where);
    const unsigned same = cuda_emulator::lanes_where(exchange, [mine](std::uint64_t other) { return other == mine; });
    *all_match = same == exchange.present;
    return *all_match != 0 ? exchange.present : 0;
}

// ---- reductions ----

#define CUDA_EMULATOR_REDUCE(name, T, expression)                                                                   \
    inline T name(unsigned mask, T value, const cuda_emulator::Where& where = cuda_emulator::Where::current()) {    \
        const auto& exchange = cuda_emulator::warp_exchange(#name, mask, cuda_emulator::to_word(value), where);     \
        return cuda_emulator::reduce<T>(exchange, [](T a, T b) -> T { return expression; });                        \
    }

CUDA_EMULATOR_REDUCE(__reduce_add_sync, unsigned, a + b)
CUDA_EMULATOR_REDUCE(__reduce_add_sync, int, static_cast<int>(static_cast<unsigned>(a) + static_cast<unsigned>(b)))
CUDA_EMULATOR_REDUCE(__reduce_min_sync, unsigned, a < b ? a : b)
CUDA_EMULATOR_REDUCE(__reduce_min_sync, int, a < b ? a : b)
CUDA_EMULATOR_REDUCE(__reduce_max_sync, unsigned, a > b ? a : b)
CUDA_EMULATOR_REDUCE(__reduce_max_sync, int, a > b ? a : b)
CUDA_EMULATOR_REDUCE(__reduce_and_sync, unsigned, a & b)
CUDA_EMULATOR_REDUCE(__reduce_or_sync, unsigned, a | b)
CUDA_EMULATOR_REDUCE(__reduce_xor_sync, unsigned, a ^ b)
#undef CUDA_EMULATOR_REDUCE
