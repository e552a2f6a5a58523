// Regions of feature maps, sampled to one size (He et al. 2017, "Mask R-CNN", section 3; semantics of torchvision).
// Legend: B maps of C channels, H x W; R boxes; h x w bins a box.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "bowerbird/device.hpp"

namespace bowerbird {

struct RoiAlignRequest {
    const float* features;                  // (B, C, H, W) by strides: channels first or last, rows apart, ...
    std::array<std::size_t, 4> shape;       // B, C, H, W
    std::array<std::ptrdiff_t, 4> strides;  // values from one to the next along B, C, H, W
    const float* boxes;                     // (R, 4) xyxy, finite; spatial_scale times that is in pixels of the map
    const std::int64_t* images;             // (R), in [0, B)
    std::size_t num_boxes;                  // R < 2^31
    std::size_t height;                     // h
    std::size_t width;                      // w
    double spatial_scale;
    std::size_t sampling_ratio;  // samples a bin and direction; 0: ceil(size of a bin)
    bool aligned;                // the centre of pixel 0 is at 0.5; else at 0, and a box has at least one pixel a side
    std::size_t num_threads;     // >= 1
};

// Fill out (R, C, h, w): each bin is the mean of the bilinear samples at the centres of its parts. A sample further
// than one pixel outside of the map counts as zero; one closer takes the value at the border.
// Throws std::invalid_argument when an image is no map.
void roi_align(const RoiAlignRequest& request, float* out);

namespace cuda {

// Bytes of scratch memory, from the lengths in the request alone.
std::size_t roi_align_scratch_bytes(const RoiAlignRequest& request);

// As above, of memory on the device and for any values: a box of no map, and one that is not finite, gives zeros.
void roi_align(const RoiAlignRequest& request, const DeviceContext& context, float* out);

}  // namespace cuda

}  // namespace bowerbird
