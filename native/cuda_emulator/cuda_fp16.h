#pragma once

#include "device/small_arithmetic.hpp"

using __half = cuda_emulator::SmallFloat<5, 10>;
using __half2 = cuda_emulator::SmallFloat2<5, 10>;
using half = __half;
using half2 = __half2;

inline float __half2float(__half a) { return a; }
inline __half __float2half(float a) { return static_cast<double>(a); }
inline __half __float2half_rn(float a) { return static_cast<double>(a); }
inline __half __double2half(double a) { return a; }
inline __half __int2half_rn(int a) { return static_cast<double>(a); }
inline unsigned short __half_as_ushort(__half a) { return a.bits; }
inline __half __ushort_as_half(unsigned short a) { return __half::from_bits(a); }

inline float2 __half22float2(__half2 a) { return {a.x, a.y}; }
inline float __low2float(__half2 a) { return a.x; }
inline float __high2float(__half2 a) { return a.y; }
inline __half __low2half(__half2 a) { return a.x; }
inline __half __high2half(__half2 a) { return a.y; }
inline __half2 __half2half2(__half a) { return {a, a}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 make_half2(__half x, __half y) { return {x, y}; }
inline __half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }
inline __half2 __float22half2_rn(float2 a) { return __floats2half2_rn(a.x, a.y); }
inline __half2 __float2half2_rn(float a) { return __floats2half2_rn(a, a); }
