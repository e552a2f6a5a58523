// cp.async: copies from global to shared memory that arrive when they are waited for.
#pragma once

#include "device/threads.hpp"

inline void __pipeline_memcpy_async(void* shared, const void* global, std::size_t size, std::size_t zeros = 0,
                                    const cuda_emulator::Where& where = cuda_emulator::Where::current()) {
    cuda_emulator::request_copy(shared, global, size, zeros, where);
}
inline void __pipeline_commit() { cuda_emulator::commit_copies(); }
inline void __pipeline_wait_prior(std::size_t pending_batches) { cuda_emulator::wait_for_copies(pending_batches); }
