#include <cpuid.h>

#include "bowerbird/simd.hpp"

namespace bowerbird {
namespace {

// Clang before 17 has no name for this feature. Its registers are those of AVX, for which AVX2 is checked below.
bool has_f16c() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

}  // namespace

// GCC's and Clang's CPUID check covers the operating system's part too (XGETBV: are the wide registers saved?).
std::vector<SimdLevel> available_levels() {
    __builtin_cpu_init();
    std::vector<SimdLevel> levels{SimdLevel::portable};
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    if (avx2) levels.push_back(SimdLevel::avx2);
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vpopcntdq")) {
        levels.push_back(SimdLevel::avx512);
    }
    return levels;
}

}  // namespace bowerbird
