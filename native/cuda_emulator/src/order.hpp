// The order in which blocks, warps and lanes run. CUDA promises none, so a kernel that is right gives the same result
// in each of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace cuda_emulator {

// One walk over 0 .. count - 1: start, start + step, ... modulo count, with step coprime to count.
class Walk {
public:
    Walk(std::size_t count, std::size_t start, std::size_t step) : count_(count), next_(start), step_(step) {}

    std::size_t next() {
        const std::size_t now = next_;
        next_ = next_ >= count_ - step_ ? next_ - (count_ - step_) : next_ + step_;
        return now;
    }

private:
    std::size_t count_, next_, step_;
};

class Order {
public:
    // From BOWERBIRD_EMULATOR_ORDER: forward (also when unset), reverse, or a seed, which shuffles.
    // Throws std::runtime_error for anything else.
    static Order from_environment();

    Walk walk(std::size_t count);
    bool is_shuffled() const { return kind_ == Kind::shuffled; }

private:
    enum class Kind { forward, reverse, shuffled };

    std::uint64_t random();

    Kind kind_ = Kind::forward;
    std::uint64_t state_ = 0;
};

}  // namespace cuda_emulator
