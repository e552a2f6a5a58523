#include "bowerbird/simd.hpp"

namespace bowerbird {

std::vector<SimdLevel> available_levels() { return {SimdLevel::portable}; }

}  // namespace bowerbird
