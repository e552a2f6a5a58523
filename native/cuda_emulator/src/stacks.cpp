#include "stacks.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

namespace cuda_emulator {

Stacks::Stacks(std::size_t count) : count_(count), page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))) {
    constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* memory = mmap(nullptr, count_ * (stack_bytes + page_), PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<char*>(memory);
    for (std::size_t i = 0; i < count_; ++i) mprotect(begin(i) - page_, page_, PROT_NONE);
}

Stacks::~Stacks() { munmap(memory_, count_ * (stack_bytes + page_)); }

char* Stacks::begin(std::size_t index) const { return memory_ + index * (stack_bytes + page_) + page_; }

}  // namespace cuda_emulator
