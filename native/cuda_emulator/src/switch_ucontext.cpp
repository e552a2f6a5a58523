#include <ucontext.h>

#include "switch.hpp"

namespace cuda_emulator {
namespace {

// Contexts live as long as the process; there are never more than the threads of the largest block.
ucontext_t& native(Context& context) {
    if (context.state == nullptr) context.state = new ucontext_t;
    return *static_cast<ucontext_t*>(context.state);
}

}  // namespace

void prepare(Context& context, char* stack, std::size_t size, void (*entry)()) {
    ucontext_t& made = native(context);
    getcontext(&made);
    made.uc_stack.ss_sp = stack;
    made.uc_stack.ss_size = size;
    made.uc_link = nullptr;
    makecontext(&made, entry, 0);
}

void switch_context(Context& from, const Context& to) {
    swapcontext(&native(from), static_cast<const ucontext_t*>(to.state));
}

}  // namespace cuda_emulator
