// Shared memory of the block that runs: the variables declared __shared__ and the part whose size the launch gives.
#pragma once

#include <cstddef>
#include <vector>

namespace cuda_emulator {

// For the length of a launch, the thread-local variables of this program or shared library on the calling thread are
// the shared variables of its kernels; afterwards they are what they were. See qualifiers.hpp.
class StaticShared {
public:
    StaticShared();
    ~StaticShared();
    StaticShared(const StaticShared&) = delete;
    StaticShared& operator=(const StaticShared&) = delete;

    void fill_garbage();

private:
    char* begin_ = nullptr;
    std::vector<char> saved_;
};

// Exactly as large as asked for, with a guard behind it.
class DynamicShared {
public:
    explicit DynamicShared(std::size_t size);
    ~DynamicShared();
    DynamicShared(const DynamicShared&) = delete;
    DynamicShared& operator=(const DynamicShared&) = delete;

    void* begin() const { return memory_; }
    void fill_garbage();
    bool guard_is_intact() const;

private:
    std::size_t size_;
    char* memory_;
};

}  // namespace cuda_emulator
