#include "preprocess_loops.hpp"

namespace bowerbird::portable {
namespace {

constexpr std::size_t block = 16;  // pixels

struct Pixels {
    float channels[3][block] = {};
};

Pixels load(const std::uint8_t* row, std::size_t count) {
    Pixels pixels;
    for (std::size_t i = 0; i < count; ++i) {
        for (std::size_t c = 0; c < 3; ++c) pixels.channels[c][i] = static_cast<float>(row[3 * i + c]);
    }
    return pixels;
}

void add(Pixels& sums, const Pixels& pixels, float weight) {
    for (std::size_t c = 0; c < 3; ++c) {
        for (std::size_t i = 0; i < block; ++i) sums.channels[c][i] += weight * pixels.channels[c][i];
    }
}

void store(const Pixels& pixels, float* lines, std::size_t stride) {
    for (std::size_t c = 0; c < 3; ++c) {
        for (std::size_t i = 0; i < block; ++i) lines[c * stride + i] = pixels.channels[c][i];
    }
}

void blend(const BlendTask& task) {
    for (std::size_t x = 0; x < task.width; x += block) {
        const std::size_t count = task.width - x < block ? task.width - x : block;
        Pixels here, next;
        for (std::size_t c = 0; c < 3; ++c) {
            for (std::size_t i = 0; i < block; ++i) here.channels[c][i] = task.carry[c * task.stride + x + i];
        }
        const Visit* visit = task.visits;
        for (std::size_t r = 0; r < task.rows; ++r) {
            for (const Visit* end = visit + task.counts[r]; visit < end; ++visit) {
                const Pixels pixels = load(visit->row + 3 * x, count);
                add(here, pixels, visit->here);
                add(next, pixels, visit->next);
            }
            store(here, task.lines + 3 * r * task.stride + x, task.stride);
            here = next;
            next = Pixels{};
        }
        store(here, task.carry + x, task.stride);
    }
}

void resample(const ResampleTask& task) {
    for (std::size_t line = 0; line < 3 * task.rows; ++line) {
        const float* inputs = task.lines + line * task.stride;
        float* out = task.planes[line % 3] + line / 3 * task.width;
        float carry = 0.0F;
        for (std::size_t x = 0; x < task.width; ++x) {
            float here = carry, next = 0.0F;
            for (std::size_t s = task.begins[x]; s < task.begins[x + 1]; ++s) {
                here += task.here[s] * inputs[task.bases[s]];
                next += task.next[s] * inputs[task.bases[s]];
            }
            out[x] = here * task.scale[line % 3] + task.offset[line % 3];
            carry = next;
        }
    }
}

}  // namespace

const PreprocessLoops preprocess_loops{{.lanes = 1, .window = 1, .alignment = 1}, &blend, &resample};

}  // namespace bowerbird::portable
