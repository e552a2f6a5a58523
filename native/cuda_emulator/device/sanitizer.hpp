// AddressSanitizer, in builds that have it: how __shared__ is stored, and the calls that tell it of stacks that change.
#pragma once

#include <cstddef>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CUDA_EMULATOR_ASAN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define CUDA_EMULATOR_ASAN
#endif

#ifdef CUDA_EMULATOR_ASAN

#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

#define __shared__ static

namespace cuda_emulator {
inline constexpr bool shared_is_thread_local = false;
inline void start_switch(void** fake_stack, const void* stack, std::size_t size) {
    __sanitizer_start_switch_fiber(fake_stack, stack, size);
}
inline void finish_switch(void* fake_stack, const void** left_stack, std::size_t* left_size) {
    __sanitizer_finish_switch_fiber(fake_stack, left_stack, left_size);
}
inline void forbid(const void* begin, std::size_t size) { __asan_poison_memory_region(begin, size); }
inline void allow(const void* begin, std::size_t size) { __asan_unpoison_memory_region(begin, size); }
}  // namespace cuda_emulator

#else

#define __shared__ static thread_local

namespace cuda_emulator {
inline constexpr bool shared_is_thread_local = true;
inline void start_switch(void**, const void*, std::size_t) {}
inline void finish_switch(void*, const void**, std::size_t*) {}
inline void forbid(const void*, std::size_t) {}
inline void allow(const void*, std::size_t) {}
}  // namespace cuda_emulator

#endif
