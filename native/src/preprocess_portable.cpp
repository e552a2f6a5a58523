#include "preprocess_loops.hpp"

namespace bowerbird::portable {
namespace {

void blend_rows(const std::uint8_t* const* rows, const float* weights, std::size_t taps, std::size_t count,
                float* out) {
    for (std::size_t i = 0; i < count; ++i) out[i] = 0.0F;
    for (std::size_t t = 0; t < taps; ++t) {
        for (std::size_t i = 0; i < count; ++i) out[i] += weights[t] * static_cast<float>(rows[t][i]);
    }
}

void resample_row(const RowTask& task) {
    for (std::size_t x = 0; x < task.width; ++x) {
        const float* pixel = task.row + std::size_t{3} * task.starts[x];
        const float* weights = task.weights + x * task.taps;
        float sums[3] = {};
        for (std::size_t t = 0; t < task.taps; ++t) {
            for (std::size_t c = 0; c < 3; ++c) sums[c] += weights[t] * pixel[3 * t + c];
        }
        for (std::size_t c = 0; c < 3; ++c) task.planes[c][x] = sums[c] * task.scale[c] + task.offset[c];
    }
}

}  // namespace

const PreprocessLoops preprocess_loops{&blend_rows, &resample_row};

}  // namespace bowerbird::portable
