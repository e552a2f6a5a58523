// AAPCS64: x19 to x30 and d8 to d15 belong to the caller.
#include "switch.hpp"

asm(R"(
    .text
    .p2align 4
    .hidden cuda_emulator_switch
    .globl cuda_emulator_switch
    .type cuda_emulator_switch, %function
cuda_emulator_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size cuda_emulator_switch, . - cuda_emulator_switch
)");

extern "C" void cuda_emulator_switch(void** from, void* to);

namespace cuda_emulator {

void prepare(Context& context, char* stack, std::size_t size, void (*entry)()) {
    void** top = reinterpret_cast<void**>(stack + size) - 20;
    for (int i = 0; i < 20; ++i) top[i] = nullptr;
    top[11] = reinterpret_cast<void*>(entry);  // x30, where ret goes
    context.state = top;
}

void switch_context(Context& from, const Context& to) { cuda_emulator_switch(&from.state, to.state); }

}  // namespace cuda_emulator
