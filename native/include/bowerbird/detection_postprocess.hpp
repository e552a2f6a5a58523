// From the outputs of a detection network to boxes: threshold, best candidates, decoding, suppression by class.
// Legend: B images, A anchors, C classes, R bins a side, M detections an image at most.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "bowerbird/device.hpp"

namespace bowerbird {

// How the four numbers of an anchor become a box.
enum class Decoding {
    none,       // they are the box, xyxy
    deltas,     // (dx, dy, dw, dh) / weights, relative to the anchor box (Ren et al., Faster R-CNN, 2015, 3.1.2)
    distances,  // left, top, right, bottom from the anchor point in strides; with R > 1 bins the expectation over the
                // softmax of the bins (Li et al., Generalized Focal Loss, 2020, section 3)
};

enum class Activation { none, sigmoid };

// log(1000 / 16): dw and dh are cut there, so that no exponential overflows.
constexpr float max_log_scale = 4.135166556742356F;

struct DetectionRequest {
    const float* scores;                               // (B, A, C), no NaN; logits where the activation is sigmoid
    const float* boxes;                                // (B, A, 4 R)
    const float* anchors;                              // deltas: (A, 4) xyxy; distances: (A, 3) x, y, stride; else null
    const std::uint8_t* wanted;                        // (C), 0 leaves the class out; null: all
    std::size_t num_images, num_anchors, num_classes;  // A * C < 2^31
    std::size_t num_bins;                              // R, 1 unless the decoding is distances
    Decoding decoding;
    Activation activation;
    bool clip;                           // cut boxes to the image
    float image_height, image_width;     // of all images, if clip
    float min_score;                     // compared with the numbers in scores: for sigmoid the logit of the threshold
    float max_iou;                       // in [0, 1], for greedy suppression
    float soft_sigma;                    // > 0: Gaussian Soft-NMS instead; 0: greedy
    float soft_min_score;                // Soft-NMS drops what falls below: the threshold as a score
    std::size_t max_candidates;          // >= 1, of an image
    std::size_t max_detections;          // M, >= 1
    std::array<float, 4> delta_weights;  // > 0
    std::size_t num_threads;             // >= 1
};

struct Detections {
    float* boxes;           // (B, M, 4) xyxy
    float* scores;          // (B, M)
    std::int64_t* classes;  // (B, M)
    std::int32_t* counts;   // (B)
};

// Fill the detections of each image, best first; beyond its count boxes and scores are 0 and classes -1.
//
// A pair of anchor and class (flat index a * C + c) with scores >= min_score is a candidate. The max_candidates best of
// an image, ties the lower flat index, are decoded, clipped, dropped if empty (not x_min < x_max, y_min < y_max), and
// suppressed by class as in nms or soft_nms, in that order for ties. Ranking and ties go by the numbers in scores; the
// sigmoid is 1 / (1 + exp(-x)) in double, rounded to float32.
//
// Throws std::invalid_argument naming scores if one is NaN, or boxes if one that is decoded is not finite: only boxes
// of candidates are read, and greedy suppression stops at max_detections.
void detection_postprocess(const DetectionRequest& request, const Detections& detections);

namespace cuda {

// A score that is NaN, and a candidate whose box is not finite, are left out.
std::size_t detection_postprocess_scratch_bytes(const DetectionRequest& request);
void detection_postprocess(const DetectionRequest& request, const DeviceContext& context,
                           const Detections& detections);

}  // namespace cuda
}  // namespace bowerbird
