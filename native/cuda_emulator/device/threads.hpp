// Where a thread is, and how it meets the other threads of its block and warp. The scheduler stands in src/block.cpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>

#include "qualifiers.hpp"
#include "vectors.hpp"

extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
inline constexpr int warpSize = 32;

namespace cuda_emulator {

using Where = std::source_location;

inline constexpr std::uint16_t garbage_pattern = 0xFFC5;  // NaN as float, half and bfloat16, odd as an integer
inline constexpr unsigned all_lanes = 0xFFFFFFFFU;

// Ends the launch with std::runtime_error, which names block, thread and place.
[[noreturn]] void fail(const std::string& fault, const Where& where);

// Fills size bytes with garbage_pattern.
void fill_garbage(void* begin, std::size_t size);

// Lets other threads run.
void yield();

unsigned lane();
void* dynamic_shared_memory();

struct Votes {
    int yes, all;
};
// Waits for all threads of the block that have not returned.
Votes block_barrier(const char* operation, bool vote, const Where& where);

// What the lanes of a mask brought to one warp operation.
struct Exchange {
    std::array<std::uint64_t, 32> values;
    unsigned present;  // lanes of the mask that have not returned
    int readers;
};
// Waits for all lanes of the mask that have not returned; valid until this lane's next warp operation.
const Exchange& warp_exchange(const char* operation, unsigned mask, std::uint64_t value, const Where& where);

// cp.async: the destination holds garbage from the request to the wait.
void request_copy(void* shared, const void* global, std::size_t size, std::size_t zeros, const Where& where);
void commit_copies();
void wait_for_copies(std::size_t pending_batches);

}  // namespace cuda_emulator

inline void __syncthreads(const cuda_emulator::Where& where = cuda_emulator::Where::current()) {
    cuda_emulator::block_barrier("__syncthreads", false, where);
}
inline int __syncthreads_count(int vote, const cuda_emulator::Where& where = cuda_emulator::Where::current()) {
    return cuda_emulator::block_barrier("__syncthreads_count", vote != 0, where).yes;
}
inline int __syncthreads_or(int vote, const cuda_emulator::Where& where = cuda_emulator::Where::current()) {
    return cuda_emulator::block_barrier("__syncthreads_or", vote != 0, where).yes != 0;
}
inline int __syncthreads_and(int vote, const cuda_emulator::Where& where = cuda_emulator::Where::current()) {
    const cuda_emulator::Votes votes = cuda_emulator::block_barrier("__syncthreads_and", vote != 0, where);
    return votes.yes == votes.all;
}

// Memory is in order here; a fence is only a point at which other threads run.
inline void __threadfence() { cuda_emulator::yield(); }
inline void __threadfence_block() { cuda_emulator::yield(); }
inline void __threadfence_system() { cuda_emulator::yield(); }
inline void __nanosleep(unsigned) { cuda_emulator::yield(); }

[[noreturn]] inline void __trap(const cuda_emulator::Where& where = cuda_emulator::Where::current()) {
    cuda_emulator::fail("__trap", where);
}
// A false assumption is undefined on a device and a fault here. A macro, because some compilers have a builtin.
#define __builtin_assume(...) cuda_emulator::assume(__VA_ARGS__)
namespace cuda_emulator {
inline void assume(bool holds, const Where& where = Where::current()) {
    if (!holds) fail("__builtin_assume of something false", where);
}
}  // namespace cuda_emulator
