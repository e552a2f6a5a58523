// Resize, normalisation and HWC uint8 -> CHW float32 in one pass.
// Legend: N pictures, H and W size of a picture, h and w size of the output.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "bowerbird/device.hpp"

namespace bowerbird {

struct PixelView {
    const std::uint8_t* pixels;  // (H, W, 3), pixels of a row contiguous
    std::size_t height;
    std::size_t width;
    std::ptrdiff_t row_stride;  // bytes from one row to the next; larger than 3 W for a crop, negative for a flip
};

// What an output pixel is the weighted mean of.
enum class Resize {
    bilinear,  // a triangle, as wide as the reduction: twice the pixel's own area, never less than two pixels
    area,      // a box: exactly the pixel's own area
};

struct PreprocessRequest {
    std::vector<PixelView> images;
    std::size_t height;         // h
    std::size_t width;          // w
    std::array<float, 3> mean;  // of output channels, in units of pixel values, 0 to 255
    std::array<float, 3> std;   // likewise, > 0
    bool swap_channels;         // output channel c is input channel 2 - c
    Resize resize;
    std::size_t shorter_side;  // 0: squeeze to (h, w); else resize to this shorter side and cut (h, w) from the centre,
                               // >= h and >= w
    std::size_t num_threads;   // >= 1
};

// Fill out (N, 3, h, w) with (resized pixel - mean) / std.
void preprocess(const PreprocessRequest& request, float* out);

namespace cuda {

// Bytes of scratch memory, from the lengths in the request alone.
std::size_t preprocess_scratch_bytes(const PreprocessRequest& request);

// As above, of pictures and output on the device.
void preprocess(const PreprocessRequest& request, const DeviceContext& context, float* out);

}  // namespace cuda

}  // namespace bowerbird
