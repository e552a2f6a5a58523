// Scratch memory in parts.
#pragma once

#include <cstddef>

namespace bowerbird::cuda {

// Hands out arrays one behind the other. On no memory at all it counts the bytes that they take.
class Scratch {
public:
    explicit Scratch(void* memory) : memory_(static_cast<std::byte*>(memory)) {}

    template <class T>
    T* array(std::size_t count) {
        std::byte* begin = memory_ == nullptr ? nullptr : memory_ + bytes_;
        bytes_ += (count * sizeof(T) + alignment - 1) / alignment * alignment;
        return reinterpret_cast<T*>(begin);
    }

    std::size_t bytes() const { return bytes_; }

private:
    static constexpr std::size_t alignment = 256;

    std::byte* memory_;
    std::size_t bytes_ = 0;
};

}  // namespace bowerbird::cuda
