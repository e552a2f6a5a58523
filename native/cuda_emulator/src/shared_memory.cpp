#include "shared_memory.hpp"

#include <link.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <stdexcept>

#include "device/threads.hpp"

namespace cuda_emulator {
namespace {

constexpr std::size_t guard_bytes = 256;
constexpr std::align_val_t alignment{128};

thread_local volatile char touched;  // its first use gives the thread its copy of the variables

struct ThreadLocals {
    std::uintptr_t code;
    char* begin = nullptr;
    std::size_t size = 0;
};

// Finds the stretch of thread-local variables of the module that holds a given piece of code.
int find_module(dl_phdr_info* module, std::size_t, void* data) {
    auto& wanted = *static_cast<ThreadLocals*>(data);
    bool holds_code = false;
    std::size_t size = 0;
    for (int i = 0; i < module->dlpi_phnum; ++i) {
        const auto& segment = module->dlpi_phdr[i];
        const std::uintptr_t begin = module->dlpi_addr + segment.p_vaddr;
        if (segment.p_type == PT_LOAD) holds_code |= wanted.code >= begin && wanted.code < begin + segment.p_memsz;
        if (segment.p_type == PT_TLS) size = segment.p_memsz;
    }
    if (!holds_code) return 0;
    wanted.begin = static_cast<char*>(module->dlpi_tls_data);
    wanted.size = wanted.begin == nullptr ? 0 : size;
    return 1;
}

}  // namespace

void fill_garbage(void* begin, std::size_t size) {
    constexpr std::uint64_t pattern = garbage_pattern * 0x0001000100010001ULL;
    char* bytes = static_cast<char*>(begin);
    for (; size >= sizeof(pattern); size -= sizeof(pattern), bytes += sizeof(pattern)) {
        std::memcpy(bytes, &pattern, sizeof(pattern));
    }
    if (size > 0) std::memcpy(bytes, &pattern, size);
}

StaticShared::StaticShared() {
    if (!shared_is_thread_local) return;
    touched = 1;
    ThreadLocals variables{reinterpret_cast<std::uintptr_t>(&find_module)};
    dl_iterate_phdr(find_module, &variables);
    if (variables.begin == nullptr) throw std::runtime_error("CUDA emulator: the shared variables were not found");
    begin_ = variables.begin;
    saved_.assign(begin_, begin_ + variables.size);
}

StaticShared::~StaticShared() { std::copy(saved_.begin(), saved_.end(), begin_); }

void StaticShared::fill_garbage() { cuda_emulator::fill_garbage(begin_, saved_.size()); }

DynamicShared::DynamicShared(std::size_t size)
    : size_(size), memory_(static_cast<char*>(::operator new(size + guard_bytes, alignment))) {
    std::memset(memory_ + size_, 0x5A, guard_bytes);
    forbid(memory_ + size_, guard_bytes);
}

DynamicShared::~DynamicShared() {
    allow(memory_ + size_, guard_bytes);
    ::operator delete(memory_, alignment);
}

void DynamicShared::fill_garbage() { cuda_emulator::fill_garbage(memory_, size_); }

bool DynamicShared::guard_is_intact() const {
    if (!shared_is_thread_local) return true;  // AddressSanitizer watches it
    return std::all_of(memory_ + size_, memory_ + size_ + guard_bytes, [](char byte) { return byte == 0x5A; });
}

}  // namespace cuda_emulator
