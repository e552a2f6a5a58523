#include "detection_postprocess_loops.hpp"

namespace bowerbird::portable {
namespace {

constexpr std::size_t group = 16;

// Hits are rare: first ask whether a group has one, without a branch between, so that the compiler can take several
// values at once.
bool has_hit(const float* values, float limit) {
    int below = 0;
    for (std::size_t i = 0; i < group; ++i) below += values[i] < limit ? 1 : 0;
    return below != group;
}

std::size_t not_below(const float* values, std::size_t count, float limit, std::uint32_t* positions) {
    std::size_t hits = 0;
    for (std::size_t first = 0; first < count; first += group) {
        const std::size_t end = first + group < count ? first + group : count;
        if (end - first == group && !has_hit(values + first, limit)) continue;
        for (std::size_t i = first; i < end; ++i) {
            if (!(values[i] < limit)) positions[hits++] = static_cast<std::uint32_t>(i);
        }
    }
    return hits;
}

}  // namespace

const DetectionLoops detection_loops{&not_below};

}  // namespace bowerbird::portable
