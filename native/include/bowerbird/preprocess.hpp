// Antialiased resize, normalisation and HWC uint8 -> CHW float32 in one pass.
// Legend: N pictures, H and W size of a picture, h and w size of the output.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace bowerbird {

struct PixelView {
    const std::uint8_t* pixels;  // (H, W, 3), pixels of a row contiguous
    std::size_t height;
    std::size_t width;
    std::ptrdiff_t row_stride;  // bytes from one row to the next; larger than 3 W for a crop, negative for a flip
};

struct PreprocessRequest {
    std::vector<PixelView> images;
    std::size_t height;         // h
    std::size_t width;          // w
    std::array<float, 3> mean;  // of output channels, in units of pixel values, 0 to 255
    std::array<float, 3> std;   // likewise, > 0
    bool swap_channels;         // output channel c is input channel 2 - c
    std::size_t num_threads;    // >= 1
};

// Fill out (N, 3, h, w) with (resized pixel - mean) / std.
void preprocess(const PreprocessRequest& request, float* out);

}  // namespace bowerbird
