// Soft-NMS on a GPU (Bodla et al., 2017, figure 2): one block an image picks the best box, lowers the scores of the
// boxes of its class, and so on.
// Legend: B images, N boxes of an image.
//
// A pick waits for the one before it, so its latency is all that counts, and everything of a pick happens between two
// barriers: each thread lowers its boxes (one in 1,024) and finds the best that is left; two reductions give the
// best of the warp, and after the barrier every warp finds the best of all by itself. That is some 600 cycles, 0.35 us,
// up to 1,024 boxes, and 200 to 300 cycles more for each further thousand. What is left of the boxes stays in the L1
// cache: a thread reads and writes its own only. Boxes are not sorted by class: comparing classes is one instruction a
// box, and picking from all at once gives the order of the result.
//
// Bits: float32 operations in the order of src/suppression.cpp, never fused (-fmad=false); the exponential is that of
// double, rounded to float32. It is exact to 1 ulp of double here and on the host, so the two agree unless the value
// lies within 2^-52 of a rounding boundary of float32: about once in 2^28 factors.
#pragma once

#include "bowerbird/nms.hpp"
#include "suppression.cuh"

namespace bowerbird::cuda {

constexpr unsigned soft_threads = 1024;
constexpr unsigned soft_warps = soft_threads / warp_lanes;
static_assert(soft_warps == warp_lanes, "a warp finds the best of all warps with one key a lane");

constexpr float gone = -1.0F;  // the score of a box that was picked or has fallen below min_score

struct SoftRule {
    bool gaussian;
    float sigma, max_iou, min_score;

    __device__ float floored(float score) const { return score >= min_score ? score : gone; }

    __device__ float factor(float iou) const {
        if (!gaussian) return iou > max_iou ? 1.0F - iou : 1.0F;
        return static_cast<float>(exp(static_cast<double>(-(iou * iou) / sigma)));
    }
};

// The boxes of all images as they are now, (B, N) each.
struct SoftBoxes {
    float4* corners;
    long long* classes;
    float* scores;
};

__device__ inline Key soft_key(float score, unsigned box) {
    return score == gone ? no_key : Key{rank_of(score)} << 32 | box;
}

__device__ inline Key least_of_warp(Key key) {
    const unsigned high = __reduce_min_sync(every_lane, static_cast<unsigned>(key >> 32));
    const unsigned low = (key >> 32) == high ? static_cast<unsigned>(key) : ~0U;
    return Key{high} << 32 | __reduce_min_sync(every_lane, low);
}

// The score of a box after `picked` was; its own is gone.
__device__ inline float lowered(const SoftRule& rule, const SoftBoxes& boxes, std::size_t box, std::size_t picked,
                                float4 corners, float area, long long class_id) {
    const float score = boxes.scores[box];
    if (score == gone || box == picked) return gone;
    if (boxes.classes[box] != class_id) return score;
    const float4 mine = boxes.corners[box];
    const float inter = intersection(mine, corners);
    const float iou = inter > 0.0F ? inter / (area_of(mine) + area - inter) : 0.0F;
    return iou > 0.0F ? rule.floored(score * rule.factor(iou)) : score;
}

// The first `limit` picks of each image. The source has
//   unsigned count(image)                      boxes of the image; at equal scores the lower number is picked first
//   Candidate candidate(image, box)
//   float score(image, box)
//   void pick(image, number, box, score, candidate)
//   void finish(image, picks)                  called by all threads
template <class Source>
__global__ void __launch_bounds__(soft_threads)
    suppress_softly(const Source source, const SoftBoxes boxes, unsigned num_boxes, const SoftRule rule,
                    unsigned limit) {
    __shared__ Key best_of_warps[2][soft_warps];
    const unsigned image = blockIdx.x, lane = threadIdx.x % warp_lanes, warp = threadIdx.x / warp_lanes;
    const std::size_t first = std::size_t{image} * num_boxes;
    const unsigned count = source.count(image);
    Key best = no_key;
    for (unsigned box = threadIdx.x; box < count; box += soft_threads) {
        const Candidate candidate = source.candidate(image, box);
        const float score = candidate.exists ? rule.floored(source.score(image, box)) : gone;
        boxes.corners[first + box] = candidate.corners;
        boxes.classes[first + box] = candidate.class_id;
        boxes.scores[first + box] = score;
        best = min(best, soft_key(score, box));
    }
    unsigned picks = 0;
    for (; picks < limit; ++picks) {
        best = least_of_warp(best);
        if (lane == 0) best_of_warps[picks % 2][warp] = best;
        __syncthreads();
        best = least_of_warp(best_of_warps[picks % 2][lane]);
        if (best == no_key) break;
        const auto picked = static_cast<unsigned>(best);
        const float4 corners = boxes.corners[first + picked];
        const float area = area_of(corners);
        const long long class_id = boxes.classes[first + picked];
        if (threadIdx.x == 0) {
            source.pick(image, picks, picked, score_of_rank(static_cast<unsigned>(best >> 32)),
                        {corners, area, class_id, true});
        }
        best = no_key;
        for (unsigned box = threadIdx.x; box < count; box += soft_threads) {
            const float score = lowered(rule, boxes, first + box, first + picked, corners, area, class_id);
            boxes.scores[first + box] = score;
            best = min(best, soft_key(score, box));
        }
    }
    source.finish(image, picks);
}

}  // namespace bowerbird::cuda
