// Stacks of the emulated threads, each with a page below it that faults when it is touched.
#pragma once

#include <cstddef>

namespace cuda_emulator {

class Stacks {
public:
    static constexpr std::size_t stack_bytes = std::size_t{128} << 10;

    // The memory is reserved here and taken page by page as it is touched.
    explicit Stacks(std::size_t count);
    ~Stacks();
    Stacks(const Stacks&) = delete;
    Stacks& operator=(const Stacks&) = delete;

    char* begin(std::size_t index) const;

    // Usable bytes from begin. The ends of the stacks fall on different cache sets: at a common distance of a power
    // of two, a thousand stacks would share a few sets and each switch would miss.
    static std::size_t size(std::size_t index) { return stack_bytes - index % 16 * 256; }

private:
    std::size_t count_, page_;
    char* memory_;
};

}  // namespace cuda_emulator
