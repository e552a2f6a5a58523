// Bits, integers and floats: CUDA's functions of one thread, with the rounding their names promise. The fast
// approximations (__expf and the like) are computed exactly here; a device is less exact.
#pragma once

#include <math.h>  // the global names, as in device code

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

// ---- minimum and maximum: the overloads CUDA has, so that what is ambiguous there is so here ----

#define CUDA_EMULATOR_MIN_MAX(A, B, Result)                                                                       \
    constexpr Result min(A a, B b) { return std::min<Result>(static_cast<Result>(a), static_cast<Result>(b)); }   \
    constexpr Result max(A a, B b) { return std::max<Result>(static_cast<Result>(a), static_cast<Result>(b)); }
#define CUDA_EMULATOR_MIN_MAX_INTEGERS(T)                     \
    CUDA_EMULATOR_MIN_MAX(T, T, T)                            \
    CUDA_EMULATOR_MIN_MAX(unsigned T, unsigned T, unsigned T) \
    CUDA_EMULATOR_MIN_MAX(T, unsigned T, unsigned T)          \
    CUDA_EMULATOR_MIN_MAX(unsigned T, T, unsigned T)
CUDA_EMULATOR_MIN_MAX_INTEGERS(int)
CUDA_EMULATOR_MIN_MAX_INTEGERS(long)
CUDA_EMULATOR_MIN_MAX_INTEGERS(long long)
#undef CUDA_EMULATOR_MIN_MAX_INTEGERS
#undef CUDA_EMULATOR_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(float a, double b) { return fmin(static_cast<double>(a), b); }
inline double max(float a, double b) { return fmax(static_cast<double>(a), b); }
inline double min(double a, float b) { return fmin(a, static_cast<double>(b)); }
inline double max(double a, float b) { return fmax(a, static_cast<double>(b)); }
inline unsigned umin(unsigned a, unsigned b) { return std::min(a, b); }
inline unsigned umax(unsigned a, unsigned b) { return std::max(a, b); }

// ---- bits ----

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline int __ffsll(long long x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned long long>(x)) + 1; }

inline unsigned long long __brevll(unsigned long long x) {
    unsigned long long reversed = 0;
    for (int bit = 0; bit < 64; ++bit) reversed |= (x >> bit & 1) << (63 - bit);
    return reversed;
}
inline unsigned __brev(unsigned x) { return static_cast<unsigned>(__brevll(x) >> 32); }

// Each nibble of the selector picks one of the eight bytes of y:x; its top bit asks for that byte's sign instead.
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
    const unsigned long long bytes = static_cast<unsigned long long>(y) << 32 | x;
    unsigned picked = 0;
    for (int i = 0; i < 4; ++i) {
        const unsigned choice = selector >> (4 * i) & 0xF;
        unsigned byte = static_cast<unsigned>(bytes >> (8 * (choice & 7))) & 0xFF;
        if ((choice & 8) != 0) byte = (byte & 0x80) != 0 ? 0xFF : 0;
        picked |= byte << (8 * i);
    }
    return picked;
}

inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    return static_cast<unsigned>(((static_cast<unsigned long long>(high) << 32 | low) << (shift & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return static_cast<unsigned>((static_cast<unsigned long long>(high) << 32 | low) >> (shift & 31));
}

// ---- integers ----

inline int __mulhi(int a, int b) { return static_cast<int>((static_cast<long long>(a) * b) >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned>((static_cast<unsigned long long>(a) * b) >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    const unsigned long long low = (a & 0xFFFFFFFF) * (b & 0xFFFFFFFF);
    const unsigned long long left = (a >> 32) * (b & 0xFFFFFFFF), right = (a & 0xFFFFFFFF) * (b >> 32);
    const unsigned long long middle = (low >> 32) + (left & 0xFFFFFFFF) + (right & 0xFFFFFFFF);
    return (a >> 32) * (b >> 32) + (left >> 32) + (right >> 32) + (middle >> 32);
}
inline unsigned __sad(int a, int b, unsigned sum) {
    return sum + (a > b ? static_cast<unsigned>(a) - static_cast<unsigned>(b)
                        : static_cast<unsigned>(b) - static_cast<unsigned>(a));
}

namespace cuda_emulator {

// The sum and products of four bytes, wrapping as the device does.
template <class ByteA, class ByteB>
unsigned dot_bytes(unsigned a, unsigned b, unsigned sum) {
    for (int shift = 0; shift < 32; shift += 8) {
        sum += static_cast<unsigned>(static_cast<ByteA>(a >> shift & 0xFF) * static_cast<ByteB>(b >> shift & 0xFF));
    }
    return sum;
}

// The integer a device makes of a float: the ends of the range for what lies outside, 0 for NaN.
template <class Integer>
Integer saturate_to(double value) {
    constexpr double low = static_cast<double>(std::numeric_limits<Integer>::min());
    constexpr double beyond = static_cast<double>(std::numeric_limits<Integer>::max() / 2 + 1) * 2.0;
    if (isnan(value)) return 0;
    if (value <= low) return std::numeric_limits<Integer>::min();
    return value >= beyond ? std::numeric_limits<Integer>::max() : static_cast<Integer>(value);
}

}  // namespace cuda_emulator

inline int __dp4a(int a, int b, int sum) {
    return static_cast<int>(cuda_emulator::dot_bytes<signed char, signed char>(
        static_cast<unsigned>(a), static_cast<unsigned>(b), static_cast<unsigned>(sum)));
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned sum) {
    return cuda_emulator::dot_bytes<unsigned char, unsigned char>(a, b, sum);
}

// ---- floats ----

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __frcp_rn(float a) { return 1.0F / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float __fdividef(float a, float b) { return a / b; }
inline float fdividef(float a, float b) { return a / b; }
inline float __expf(float a) { return expf(a); }
inline float __exp10f(float a) { return powf(10.0F, a); }
inline float __logf(float a) { return logf(a); }
inline float __log2f(float a) { return log2f(a); }
inline float __log10f(float a) { return log10f(a); }
inline float __powf(float a, float b) { return powf(a, b); }
inline float __sinf(float a) { return sinf(a); }
inline float __cosf(float a) { return cosf(a); }
inline float rsqrtf(float a) { return static_cast<float>(1.0 / sqrt(static_cast<double>(a))); }
inline float __frsqrt_rn(float a) { return rsqrtf(a); }
inline double rsqrt(double a) { return 1.0 / sqrt(a); }
inline float __saturatef(float a) { return a > 0.0F ? fminf(a, 1.0F) : 0.0F; }  // NaN gives 0

// ---- conversions and bit casts ----

inline int __float_as_int(float a) { return std::bit_cast<int>(a); }
inline unsigned __float_as_uint(float a) { return std::bit_cast<unsigned>(a); }
inline float __int_as_float(int a) { return std::bit_cast<float>(a); }
inline float __uint_as_float(unsigned a) { return std::bit_cast<float>(a); }
inline long long __double_as_longlong(double a) { return std::bit_cast<long long>(a); }
inline double __longlong_as_double(long long a) { return std::bit_cast<double>(a); }

#define CUDA_EMULATOR_CONVERT(word, Integer, suffix, round)                                       \
    inline Integer __float2##word##_##suffix(float a) {                                           \
        return cuda_emulator::saturate_to<Integer>(round(static_cast<double>(a)));                \
    }                                                                                             \
    inline Integer __double2##word##_##suffix(double a) { return cuda_emulator::saturate_to<Integer>(round(a)); }
#define CUDA_EMULATOR_CONVERSIONS(word, Integer)             \
    CUDA_EMULATOR_CONVERT(word, Integer, rn, rint)           \
    CUDA_EMULATOR_CONVERT(word, Integer, rz, trunc)          \
    CUDA_EMULATOR_CONVERT(word, Integer, rd, floor)          \
    CUDA_EMULATOR_CONVERT(word, Integer, ru, ceil)           \
    inline float __##word##2float_rn(Integer a) { return static_cast<float>(a); }
CUDA_EMULATOR_CONVERSIONS(int, int)
CUDA_EMULATOR_CONVERSIONS(uint, unsigned)
CUDA_EMULATOR_CONVERSIONS(ll, long long)
CUDA_EMULATOR_CONVERSIONS(ull, unsigned long long)
#undef CUDA_EMULATOR_CONVERSIONS
#undef CUDA_EMULATOR_CONVERT
inline float __double2float_rn(double a) { return static_cast<float>(a); }
