// The arithmetic that half and bfloat16 share: compute in float or double, round once to the small type.
#pragma once

#include <math.h>

#include <bit>
#include <cstdint>

namespace cuda_emulator {

// a * b + c, rounded to odd: an inexact double gets its last bit set, so that rounding it again, to a type of at most
// 50 bits, gives what rounding the exact sum would (Boldo, Melquiond, "When double rounding is odd", 2005). The
// product of two floats is exact in double.
inline double fma_to_odd(float a, float b, float c) {
    const double product = static_cast<double>(a) * b, addend = c, sum = product + addend;
    if (!isfinite(sum)) return sum;
    const double back = sum - product;
    const double error = (product - (sum - back)) + (addend - back);
    auto bits = std::bit_cast<std::uint64_t>(sum);
    if (error == 0.0 || (bits & 1) != 0) return sum;
    // Odd neighbour on the side of the error.
    const bool away_from_zero = (error > 0.0) == (sum > 0.0);
    bits += away_from_zero ? 1 : -1;
    return std::bit_cast<double>(bits);
}

// The bits of value in a format of 1 sign, exponent_bits and mantissa_bits, to nearest, ties to even; NaN is 0x7FFF.
template <int exponent_bits, int mantissa_bits>
std::uint16_t round_to_bits(double value) {
    constexpr int bias = (1 << (exponent_bits - 1)) - 1;
    if (isnan(value)) return 0x7FFF;
    const std::uint16_t sign = signbit(value) ? 0x8000 : 0;
    const double magnitude = fabs(value);
    if (magnitude == 0.0) return sign;
    const int exponent = magnitude < ldexp(1.0, 1 - bias) ? 1 - bias : ilogb(magnitude);  // of subnormals: the smallest
    if (exponent > bias) return sign | ((1 << exponent_bits) - 1) << mantissa_bits;
    // In units of the last place; scaling by a power of two is exact. A carry walks into the exponent by itself.
    const auto units = static_cast<std::uint32_t>(rint(ldexp(magnitude, mantissa_bits - exponent)));
    return static_cast<std::uint16_t>(sign + ((exponent + bias - 1) << mantissa_bits) + units);
}

template <int exponent_bits, int mantissa_bits>
float bits_to_float(std::uint16_t bits) {
    const std::uint32_t sign = (bits & 0x8000U) << 16;
    const std::uint32_t rest = (bits & 0x7FFFU) << (23 - mantissa_bits);
    constexpr std::uint32_t infinity = ((1U << exponent_bits) - 1) << 23;
    if (rest >= infinity) return std::bit_cast<float>(sign | 0x7F800000U | rest);
    // The exponent's bias is put right by a multiplication, which also normalises what was subnormal.
    const float scaled = std::bit_cast<float>(rest) * ldexpf(1.0F, 128 - (1 << (exponent_bits - 1)));
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(scaled));
}

}  // namespace cuda_emulator
