#include "levels.hpp"

namespace bowerbird {

std::vector<SimdLevel> available_levels() { return {SimdLevel::portable}; }

const Kernels& table_of(SimdLevel) { return portable::table; }

}  // namespace bowerbird
