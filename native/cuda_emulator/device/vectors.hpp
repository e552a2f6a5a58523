// CUDA's vector types, with the sizes and alignments of the real ones.
#pragma once

#define CUDA_EMULATOR_VECTORS(name, Scalar)                                                                       \
    struct name##1 { Scalar x; };                                                                                 \
    struct alignas(2 * sizeof(Scalar)) name##2 { Scalar x, y; };                                                  \
    struct name##3 { Scalar x, y, z; };                                                                           \
    struct alignas(4 * sizeof(Scalar) < 16 ? 4 * sizeof(Scalar) : 16) name##4 { Scalar x, y, z, w; };             \
    constexpr name##1 make_##name##1(Scalar x) { return {x}; }                                                    \
    constexpr name##2 make_##name##2(Scalar x, Scalar y) { return {x, y}; }                                       \
    constexpr name##3 make_##name##3(Scalar x, Scalar y, Scalar z) { return {x, y, z}; }                          \
    constexpr name##4 make_##name##4(Scalar x, Scalar y, Scalar z, Scalar w) { return {x, y, z, w}; }

CUDA_EMULATOR_VECTORS(char, signed char)
CUDA_EMULATOR_VECTORS(uchar, unsigned char)
CUDA_EMULATOR_VECTORS(short, short)
CUDA_EMULATOR_VECTORS(ushort, unsigned short)
CUDA_EMULATOR_VECTORS(int, int)
CUDA_EMULATOR_VECTORS(uint, unsigned int)
CUDA_EMULATOR_VECTORS(long, long)
CUDA_EMULATOR_VECTORS(ulong, unsigned long)
CUDA_EMULATOR_VECTORS(longlong, long long)
CUDA_EMULATOR_VECTORS(ulonglong, unsigned long long)
CUDA_EMULATOR_VECTORS(float, float)
CUDA_EMULATOR_VECTORS(double, double)
#undef CUDA_EMULATOR_VECTORS

struct dim3 {
    unsigned int x = 1, y = 1, z = 1;

    constexpr dim3(unsigned int x_ = 1, unsigned int y_ = 1, unsigned int z_ = 1) : x(x_), y(y_), z(z_) {}
    constexpr dim3(uint3 other) : x(other.x), y(other.y), z(other.z) {}
    constexpr operator uint3() const { return {x, y, z}; }
};
