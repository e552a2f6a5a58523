// Which instruction set the kernels use: chosen once from CPUID, changed only by name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bowerbird {

enum class SimdLevel { portable, avx2, avx512 };

// "portable", "avx2" or "avx512".
std::string_view name_of(SimdLevel level);

// The levels this processor can run, lowest first; portable is always there.
// avx2 needs AVX2, FMA, F16C; avx512 needs F, BW, DQ, VL, VNNI and VPOPCNTDQ on top (Ice Lake, Zen 4 and later).
std::vector<SimdLevel> available_levels();

// The level in use: the highest available one unless use_level was called.
SimdLevel current_level();

// Switch all kernels to the level of this name, for calls that start afterwards.
// Throws std::invalid_argument when the name is unknown or the processor lacks the level.
void use_level(const std::string& name);

}  // namespace bowerbird
