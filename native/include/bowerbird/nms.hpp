// Non-maximum suppression, greedy and soft.
// Legend: B images, N boxes an image, M kept boxes an image at most.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bowerbird/device.hpp"

namespace bowerbird {

struct NmsRequest {
    const float* boxes;           // (B, N, 4) xyxy, finite
    const float* scores;          // (B, N), finite
    const std::int64_t* classes;  // (B, N), boxes of different classes never suppress each other; null: one class
    const std::int32_t* counts;   // (B), 0 to N: only the first so many boxes of the image exist; null: all
    std::size_t num_images;       // B
    std::size_t num_boxes;        // N < 2^31
    std::size_t max_kept;         // M < 2^31
    float max_iou;                // in [0, 1]; a pair at exactly this value survives
    std::size_t num_threads;      // >= 1
};

// Fill indices (B, M) with the first M boxes of each image that survive, best score first, ties keep the lower index,
// -1 beyond; and counts (B) with how many there are.
// A pair is over the threshold if inter > max_iou * (area + area - inter), each operation rounded to float32. A box
// without area (empty or inverted) has IoU 0 with every box: it survives and suppresses nothing.
void nms(const NmsRequest& request, std::int64_t* indices, std::int32_t* counts);

enum class Decay { gaussian, linear };

struct SoftNmsRequest {
    const float* boxes;           // (N, 4) xyxy, finite
    const float* scores;          // (N), finite
    const std::int64_t* classes;  // (N), boxes of different classes leave each other's scores alone; null: one class
    std::size_t num_boxes;        // N < 2^31
    Decay decay;
    float sigma;      // > 0, of the Gaussian
    float max_iou;    // in [0, 1]; the linear decay leaves pairs at or below alone
    float min_score;  // >= 0; a box whose score is or falls below is dropped
};

// Soft-NMS (Bodla et al., 2017, figure 2): pick the best box, ties the lower index, multiply the scores of the boxes of
// its class that are left by f(IoU), repeat. Fill indices (N) and scores (N), as decayed when picked, in the order of
// picking; -1 and 0 beyond; count (1) is how many there are.
// f is exp(-(iou * iou) / sigma), or 1 - iou where iou > max_iou. Each operation is rounded to float32, the exponential
// from its value in double, so the result is the same at every SIMD level. IoU is inter / union, 0 where inter is 0.
void soft_nms(const SoftNmsRequest& request, std::int64_t* indices, float* scores, std::int32_t* count);

namespace cuda {

// Boxes and scores that are not finite are left out; counts are taken as 0 to N.
std::size_t nms_scratch_bytes(const NmsRequest& request);
void nms(const NmsRequest& request, const DeviceContext& context, std::int64_t* indices, std::int32_t* counts);

std::size_t soft_nms_scratch_bytes(const SoftNmsRequest& request);
void soft_nms(const SoftNmsRequest& request, const DeviceContext& context, std::int64_t* indices, float* scores,
              std::int32_t* count);

}  // namespace cuda
}  // namespace bowerbird
