// What kernels call, for the thread that runs now.
#include <algorithm>
#include <cstring>

#include "block.hpp"

namespace cuda_emulator {

void yield() { block().yield(); }

unsigned lane() { return block().current_lane(); }

Votes block_barrier(const char* operation, bool vote, const Where& where) {
    return block().wait_at_barrier(operation, vote, where);
}

const Exchange& warp_exchange(const char* operation, unsigned mask, std::uint64_t value, const Where& where) {
    return block().wait_at_exchange(operation, mask, value, where);
}

void request_copy(void* shared, const void* global, std::size_t size, std::size_t zeros, const Where& where) {
    if ((size != 4 && size != 8 && size != 16) || zeros > size) {
        fail("asynchronous copy of " + std::to_string(size) + " bytes, " + std::to_string(zeros) +
                 " of them zeros; expected 4, 8 or 16",
             where);
    }
    if ((reinterpret_cast<std::uintptr_t>(shared) | reinterpret_cast<std::uintptr_t>(global)) % size != 0) {
        fail("asynchronous copy: source and destination must be aligned to its size", where);
    }
    Thread& thread = block().current();
    fill_garbage(shared, size);
    thread.copies.push_back({shared, global, size, zeros, thread.batch});
}

void commit_copies() { ++block().current().batch; }

void wait_for_copies(std::size_t pending_batches) {
    Thread& thread = block().current();
    // Copies not yet committed count to the batch that is open, as after a commit.
    const auto arrives = [&](const Copy& copy) { return copy.batch + pending_batches < thread.batch; };
    const auto first_pending = std::find_if_not(thread.copies.begin(), thread.copies.end(), arrives);
    std::for_each(thread.copies.begin(), first_pending, [](const Copy& copy) {
        std::memcpy(copy.shared, copy.global, copy.size - copy.zeros);
        std::memset(static_cast<char*>(copy.shared) + copy.size - copy.zeros, 0, copy.zeros);
    });
    thread.copies.erase(thread.copies.begin(), first_pending);
}

}  // namespace cuda_emulator
