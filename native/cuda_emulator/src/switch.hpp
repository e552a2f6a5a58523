// Changes from one stack to another. One source a processor: switch_x86_64.cpp, switch_aarch64.cpp, and the C
// library's ucontext elsewhere, which is slower because it also saves the signal mask with a system call.
#pragma once

#include <cstddef>

namespace cuda_emulator {

struct Context {
    void* state = nullptr;
};

// A context that will run entry, which never returns, on the stack [stack, stack + size), size a multiple of 16.
void prepare(Context& context, char* stack, std::size_t size, void (*entry)());

// Saves where the caller stands in from and goes on where to stands.
void switch_context(Context& from, const Context& to);

}  // namespace cuda_emulator
