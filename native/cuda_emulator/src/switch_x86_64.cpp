// System V x86-64: rbx, rbp and r12 to r15 belong to the caller, all else is lost in a call anyway. It leaves by a jump:
// a return would be predicted to go back to the caller, wrongly each time, and a switch takes 25 ns instead of 40.
#include "switch.hpp"

asm(R"(
    .text
    .p2align 4
    .hidden cuda_emulator_switch
    .globl cuda_emulator_switch
    .type cuda_emulator_switch, @function
cuda_emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    popq %rcx
    jmpq *%rcx
    .size cuda_emulator_switch, . - cuda_emulator_switch
)");

extern "C" void cuda_emulator_switch(void** from, void* to);

namespace cuda_emulator {

void prepare(Context& context, char* stack, std::size_t size, void (*entry)()) {
    // From the top: a null return address for the debugger's last frame, the entry to return to, six registers. A
    // function is entered with its stack 8 bytes off a multiple of 16.
    void** top = reinterpret_cast<void**>(stack + size);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    context.state = top;
}

void switch_context(Context& from, const Context& to) { cuda_emulator_switch(&from.state, to.state); }

}  // namespace cuda_emulator
