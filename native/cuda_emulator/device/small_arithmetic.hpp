// The types half and bfloat16, alone and in pairs, with CUDA's arithmetic on them.
#pragma once

#include "small_floats.hpp"
#include "vectors.hpp"

namespace cuda_emulator {

template <int exponent_bits, int mantissa_bits>
struct SmallFloat {
    std::uint16_t bits;

    SmallFloat() = default;
    SmallFloat(double value) : bits(round_to_bits<exponent_bits, mantissa_bits>(value)) {}
    operator float() const { return bits_to_float<exponent_bits, mantissa_bits>(bits); }

    static SmallFloat from_bits(std::uint16_t bits) {
        SmallFloat made;
        made.bits = bits;
        return made;
    }
};

template <int exponent_bits, int mantissa_bits>
struct alignas(4) SmallFloat2 {
    using Scalar = SmallFloat<exponent_bits, mantissa_bits>;
    Scalar x, y;

    SmallFloat2() = default;
    SmallFloat2(Scalar x_, Scalar y_) : x(x_), y(y_) {}
};

}  // namespace cuda_emulator

#define CUDA_EMULATOR_SMALL template <int E, int M>
#define CUDA_EMULATOR_S cuda_emulator::SmallFloat<E, M>
#define CUDA_EMULATOR_S2 cuda_emulator::SmallFloat2<E, M>

// Float holds the exact product, and its sum and quotient round innocently: 24 >= 2 * 11 + 2 bits.
#define CUDA_EMULATOR_BINARY(name, name2, symbol)                                                         \
    CUDA_EMULATOR_SMALL CUDA_EMULATOR_S name(CUDA_EMULATOR_S a, CUDA_EMULATOR_S b) {                      \
        return static_cast<double>(static_cast<float>(a) symbol static_cast<float>(b));                   \
    }                                                                                                     \
    CUDA_EMULATOR_SMALL CUDA_EMULATOR_S operator symbol(CUDA_EMULATOR_S a, CUDA_EMULATOR_S b) { return name(a, b); } \
    CUDA_EMULATOR_SMALL CUDA_EMULATOR_S2 name2(CUDA_EMULATOR_S2 a, CUDA_EMULATOR_S2 b) {                  \
        return {name(a.x, b.x), name(a.y, b.y)};                                                          \
    }                                                                                                     \
    CUDA_EMULATOR_SMALL CUDA_EMULATOR_S2 operator symbol(CUDA_EMULATOR_S2 a, CUDA_EMULATOR_S2 b) { return name2(a, b); }
CUDA_EMULATOR_BINARY(__hadd, __hadd2, +)
CUDA_EMULATOR_BINARY(__hsub, __hsub2, -)
CUDA_EMULATOR_BINARY(__hmul, __hmul2, *)
CUDA_EMULATOR_BINARY(__hdiv, __h2div, /)
#undef CUDA_EMULATOR_BINARY

#define CUDA_EMULATOR_COMPARE(name, symbol)                                       \
    CUDA_EMULATOR_SMALL bool name(CUDA_EMULATOR_S a, CUDA_EMULATOR_S b) {         \
        return static_cast<float>(a) symbol static_cast<float>(b);                \
    }                                                                             \
    CUDA_EMULATOR_SMALL bool operator symbol(CUDA_EMULATOR_S a, CUDA_EMULATOR_S b) { return name(a, b); }
CUDA_EMULATOR_COMPARE(__heq, ==)
CUDA_EMULATOR_COMPARE(__hne, !=)
CUDA_EMULATOR_COMPARE(__hlt, <)
CUDA_EMULATOR_COMPARE(__hle, <=)
CUDA_EMULATOR_COMPARE(__hgt, >)
CUDA_EMULATOR_COMPARE(__hge, >=)
#undef CUDA_EMULATOR_COMPARE

CUDA_EMULATOR_SMALL CUDA_EMULATOR_S __hfma(CUDA_EMULATOR_S a, CUDA_EMULATOR_S b, CUDA_EMULATOR_S c) {
    return cuda_emulator::fma_to_odd(a, b, c);
}
CUDA_EMULATOR_SMALL CUDA_EMULATOR_S2 __hfma2(CUDA_EMULATOR_S2 a, CUDA_EMULATOR_S2 b, CUDA_EMULATOR_S2 c) {
    return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}
CUDA_EMULATOR_SMALL CUDA_EMULATOR_S __hneg(CUDA_EMULATOR_S a) { return CUDA_EMULATOR_S::from_bits(a.bits ^ 0x8000); }
CUDA_EMULATOR_SMALL CUDA_EMULATOR_S __habs(CUDA_EMULATOR_S a) { return CUDA_EMULATOR_S::from_bits(a.bits & 0x7FFF); }
CUDA_EMULATOR_SMALL CUDA_EMULATOR_S __hmax(CUDA_EMULATOR_S a, CUDA_EMULATOR_S b) {
    return static_cast<double>(fmaxf(a, b));
}
CUDA_EMULATOR_SMALL CUDA_EMULATOR_S __hmin(CUDA_EMULATOR_S a, CUDA_EMULATOR_S b) {
    return static_cast<double>(fminf(a, b));
}
CUDA_EMULATOR_SMALL bool __hisnan(CUDA_EMULATOR_S a) { return isnan(static_cast<float>(a)); }
CUDA_EMULATOR_SMALL CUDA_EMULATOR_S2 __hneg2(CUDA_EMULATOR_S2 a) { return {__hneg(a.x), __hneg(a.y)}; }
CUDA_EMULATOR_SMALL CUDA_EMULATOR_S2 __habs2(CUDA_EMULATOR_S2 a) { return {__habs(a.x), __habs(a.y)}; }
CUDA_EMULATOR_SMALL CUDA_EMULATOR_S2 __hmax2(CUDA_EMULATOR_S2 a, CUDA_EMULATOR_S2 b) {
    return {__hmax(a.x, b.x), __hmax(a.y, b.y)};
}
CUDA_EMULATOR_SMALL CUDA_EMULATOR_S2 __hmin2(CUDA_EMULATOR_S2 a, CUDA_EMULATOR_S2 b) {
    return {__hmin(a.x, b.x), __hmin(a.y, b.y)};
}

#undef CUDA_EMULATOR_S2
#undef CUDA_EMULATOR_S
#undef CUDA_EMULATOR_SMALL
