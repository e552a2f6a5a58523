// Kernel tables of the processor family this build is for: levels_x86.cpp or levels_other.cpp.
#pragma once

#include "bowerbird/simd.hpp"
#include "kernels.hpp"

namespace bowerbird {

// The table of an available level.
const Kernels& table_of(SimdLevel level);

}  // namespace bowerbird
