#include <bit>

#include "rerank_loops.hpp"

namespace bowerbird::portable {
namespace {

constexpr std::size_t lanes = 8;  // independent sums: the compiler turns them into whatever vectors it has

struct Float32 {
    using Stored = float;
    static float widen(float value) { return value; }
};

struct Float16 {
    using Stored = std::uint16_t;

    // IEEE 754 binary16 to binary32, denormals, infinities and NaNs included.
    static float widen(std::uint16_t half) {
        const std::uint32_t sign = std::uint32_t{half & 0x8000U} << 16;
        const std::uint32_t magnitude = half & 0x7FFFU;
        if (magnitude >= 0x7C00U) return std::bit_cast<float>(sign | 0x7F800000U | (magnitude & 0x3FFU) << 13);
        // Placed 13 bits up, the value is 2^112 too small (the exponent biases differ); the product is exact.
        const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112F;
        return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(scaled));
    }
};

struct Bfloat16 {
    using Stored = std::uint16_t;
    static float widen(std::uint16_t half) { return std::bit_cast<float>(std::uint32_t{half} << 16); }
};

struct Int8 {
    using Stored = std::int8_t;
    static float widen(std::int8_t value) { return value; }
};

float sum_lanes(const float* sums) {
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

// One term of the sums; `scale` is 1 but for int8.
template <Metric metric>
void add(float value, float query, float scale, float& sum, float& square) {
    if constexpr (metric == Metric::l2) {
        const float difference = query - scale * value;
        sum += difference * difference;
    } else {
        sum += value * query;
        if constexpr (metric == Metric::cosine) square += value * value;
    }
}

template <class Row, Metric metric>
void score(const ScoreTask& task, float* sums, float* squares) {
    const auto* rows = static_cast<const typename Row::Stored*>(task.rows);
    for (std::size_t r = 0; r < task.count; ++r) {
        const auto id = static_cast<std::size_t>(task.ids[r]);
        const auto* row = rows + id * task.dimension;
        const float scale = task.scales == nullptr ? 1.0F : task.scales[id];
        float sum[lanes] = {}, square[lanes] = {};
        std::size_t i = 0;
        for (; i + lanes <= task.dimension; i += lanes) {
            for (std::size_t lane = 0; lane < lanes; ++lane) {
                add<metric>(Row::widen(row[i + lane]), task.query[i + lane], scale, sum[lane], square[lane]);
            }
        }
        for (std::size_t lane = 0; i < task.dimension; ++i, ++lane) {
            add<metric>(Row::widen(row[i]), task.query[i], scale, sum[lane], square[lane]);
        }
        sums[r] = sum_lanes(sum);
        if constexpr (metric == Metric::inner_product) sums[r] *= scale;
        if constexpr (metric == Metric::cosine) squares[r] = sum_lanes(square);
    }
}

// Floats as unsigned numbers of the opposite order.
std::uint32_t descending(float rank) {
    const auto bits = std::bit_cast<std::uint32_t>(rank + 0.0F);
    return bits >> 31 != 0 ? bits : ~bits & 0x7FFFFFFFU;
}

}  // namespace

// Neither loop has a branch on what it keeps, which could be mispredicted.
std::size_t pack(const std::int64_t* ids, std::size_t count, std::size_t num_rows, std::int64_t* packed) {
    std::size_t size = 0;
    for (std::size_t i = 0; i < count; ++i) {
        if (static_cast<std::uint64_t>(ids[i]) >= num_rows && ids[i] != -1) return refused;
        packed[size] = ids[i];
        size += ids[i] != -1 ? 1 : 0;
    }
    return size;
}

std::size_t keys(const float* ranks, const std::int64_t* ids, std::size_t count, float bar, Key* keys) {
    std::size_t size = 0;
    for (std::size_t i = 0; i < count; ++i) {
        if (ranks[i] != ranks[i]) return refused;
        keys[size] = Key{descending(ranks[i])} << id_bits | static_cast<Key>(ids[i]);
        size += ranks[i] >= bar ? 1 : 0;
    }
    return size;
}

const RerankLoops rerank_loops{
    {
        {&score<Float32, Metric::inner_product>, &score<Float32, Metric::l2>, &score<Float32, Metric::cosine>},
        {&score<Float16, Metric::inner_product>, &score<Float16, Metric::l2>, &score<Float16, Metric::cosine>},
        {&score<Bfloat16, Metric::inner_product>, &score<Bfloat16, Metric::l2>, &score<Bfloat16, Metric::cosine>},
        {&score<Int8, Metric::inner_product>, &score<Int8, Metric::l2>, &score<Int8, Metric::cosine>},
    },
    &pack,
    &keys,
    nullptr,
};

}  // namespace bowerbird::portable
