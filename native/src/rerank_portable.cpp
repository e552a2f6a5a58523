#include <bit>
#include <cstring>

#include "rerank_loops.hpp"

namespace bowerbird::portable {
namespace {

constexpr std::size_t lanes = 8;  // independent sums: the compiler turns them into whatever vectors it has

float widen(float value) { return value; }

// IEEE 754 binary16 to binary32, denormals, infinities and NaNs included.
float widen(std::uint16_t half) {
    const std::uint32_t sign = std::uint32_t{half & 0x8000U} << 16;
    const std::uint32_t magnitude = half & 0x7FFFU;
    if (magnitude >= 0x7C00U) return std::bit_cast<float>(sign | 0x7F800000U | (magnitude & 0x3FFU) << 13);
    // Placed 13 bits up, the value is 2^112 too small (the exponent biases differ); the product is exact.
    const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112F;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(scaled));
}

template <class Value>
float dot(const Value* row, const float* query, std::size_t dimension) {
    float sums[lanes] = {};
    std::size_t i = 0;
    for (; i + lanes <= dimension; i += lanes) {
        for (std::size_t lane = 0; lane < lanes; ++lane) sums[lane] += widen(row[i + lane]) * query[i + lane];
    }
    for (; i < dimension; ++i) sums[i % lanes] += widen(row[i]) * query[i];
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

template <class Value>
void dot_all(const DotTask& task, float* scores) {
    const Value* rows = static_cast<const Value*>(task.rows);
    for (std::size_t i = 0; i < task.count; ++i) {
        const Value* row = rows + static_cast<std::size_t>(task.ids[i]) * task.dimension;
        scores[i] = dot(row, task.query, task.dimension);
    }
}

void dot_float32(const DotTask& task, float* scores) { dot_all<float>(task, scores); }

void dot_float16(const DotTask& task, float* scores) { dot_all<std::uint16_t>(task, scores); }

}  // namespace

const RerankLoops rerank_loops{&dot_float32, &dot_float16};

}  // namespace bowerbird::portable
