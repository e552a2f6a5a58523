#include "order.hpp"

#include <charconv>
#include <cstdlib>
#include <numeric>
#include <stdexcept>
#include <string_view>

namespace cuda_emulator {

Order Order::from_environment() {
    Order order;
    const char* variable = std::getenv("BOWERBIRD_EMULATOR_ORDER");
    const std::string_view wanted = variable == nullptr ? "" : variable;
    if (wanted.empty() || wanted == "forward") return order;
    if (wanted == "reverse") {
        order.kind_ = Kind::reverse;
        return order;
    }
    order.kind_ = Kind::shuffled;
    const auto [end, fault] = std::from_chars(wanted.data(), wanted.data() + wanted.size(), order.state_);
    if (fault != std::errc() || end != wanted.data() + wanted.size()) {
        throw std::runtime_error("BOWERBIRD_EMULATOR_ORDER: expected forward, reverse or a seed, got '" +
                                 std::string(wanted) + "'");
    }
    return order;
}

Walk Order::walk(std::size_t count) {
    if (count < 2 || kind_ == Kind::forward) return {count, 0, 1};
    if (kind_ == Kind::reverse) return {count, count - 1, count - 1};
    std::size_t step = 1 + random() % (count - 1);
    while (std::gcd(step, count) != 1) step = 1 + random() % (count - 1);
    return {count, random() % count, step};
}

// splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
std::uint64_t Order::random() {
    std::uint64_t bits = state_ += 0x9E3779B97F4A7C15ULL;
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9ULL;
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EBULL;
    return bits ^ bits >> 31;
}

}  // namespace cuda_emulator
