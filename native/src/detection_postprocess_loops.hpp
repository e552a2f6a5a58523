// The inner loop of detection_postprocess, once a SIMD level.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch.hpp"

namespace bowerbird {

struct DetectionLoops {
    // Positions, ascending, of the values that are not below the limit; so NaN is among them. Returns how many.
    std::size_t (*not_below)(const float* values, std::size_t count, float limit, std::uint32_t* positions);
};

BOWERBIRD_LOOPS(DetectionLoops, detection_loops)

}  // namespace bowerbird
