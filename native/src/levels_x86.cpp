#include "levels.hpp"

namespace bowerbird {

// GCC's and Clang's CPUID check covers the operating system's part too (XGETBV: are the wide registers saved?).
std::vector<SimdLevel> available_levels() {
    __builtin_cpu_init();
    std::vector<SimdLevel> levels{SimdLevel::portable};
    const bool avx2 =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    if (avx2) levels.push_back(SimdLevel::avx2);
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vpopcntdq")) {
        levels.push_back(SimdLevel::avx512);
    }
    return levels;
}

const Kernels& table_of(SimdLevel level) {
    switch (level) {
        case SimdLevel::avx512: return avx512::table;
        case SimdLevel::avx2: return avx2::table;
        case SimdLevel::portable: break;
    }
    return portable::table;
}

}  // namespace bowerbird
