#include "bowerbird/simd.hpp"

#include <algorithm>
#include <atomic>
#include <stdexcept>

namespace bowerbird {
namespace {

std::atomic<SimdLevel>& level_in_use() {
    static std::atomic<SimdLevel> level{available_levels().back()};
    return level;
}

std::string joined_names(const std::vector<SimdLevel>& levels) {
    std::string names;
    for (const SimdLevel level : levels) names += (names.empty() ? "" : ", ") + std::string(name_of(level));
    return names;
}

}  // namespace

std::string_view name_of(SimdLevel level) {
    switch (level) {
        case SimdLevel::avx512: return "avx512";
        case SimdLevel::avx2: return "avx2";
        case SimdLevel::portable: break;
    }
    return "portable";
}

SimdLevel current_level() { return level_in_use().load(); }

void use_level(const std::string& name) {
    const std::vector<SimdLevel> levels = available_levels();
    const auto found =
        std::find_if(levels.begin(), levels.end(), [&](SimdLevel level) { return name_of(level) == name; });
    if (found == levels.end()) {
        throw std::invalid_argument("expected a SIMD level of this processor (" + joined_names(levels) + "), got '" +
                                    name + "'");
    }
    level_in_use().store(*found);
}

}  // namespace bowerbird
