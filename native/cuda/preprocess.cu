// Resize, normalisation and layout of a batch of pictures on a GPU, in one launch for sixty of them.
// Legend: N pictures, H and W size of a picture, h and w size of the output.
//
// The floor is the traffic: 820 KB in and 600 KB out for 640 x 427 to 224 x 224, 0.3 us at the 4.3 TB/s that a copy
// reaches on an H200; a batch is what fills the device. A block makes a tile of 32 x 6 outputs. It walks over the
// picture under the tile in strips of 64 columns: first each thread blends one byte column (pixel and channel) down the
// rows, for all six output rows at once, so that every byte of the tile is read once, in whole lines; then each
// thread adds the strip to its own output pixel. Both passes thus stay in registers and 5 KB of shared memory, whatever
// the size of the picture.
//
// Descriptors of the pictures travel as kernel arguments: nothing is copied before the launch, and a graph keeps them.
// Weights are computed where they are used, relative to the tile and not normalised: each output divides by their sums.
// Reference: src/bowerbird/native/reference/preprocess.py.
#include "bowerbird/preprocess.hpp"

#include <algorithm>

#include "launch.cuh"
#include "resize_filter.hpp"

namespace bowerbird::cuda {
namespace {

constexpr unsigned tile_width = 32, tile_height = 6, threads = tile_width * tile_height;
constexpr unsigned strip_columns = 64, strip_rows = 32;  // of the picture
constexpr unsigned pictures_a_launch = 60;               // 4 KiB of arguments
static_assert(threads == 3 * strip_columns, "a thread blends one byte column of a strip");
static_assert(threads == tile_height * strip_rows, "a thread computes one weight of a strip's rows");

// One direction of a resize, as Axis has it.
struct Direction {
    double ratio;
    unsigned inputs, first;
};

struct Picture {
    const std::uint8_t* pixels;
    std::ptrdiff_t row_stride;
    Direction vertical, horizontal;
};

struct Pictures {
    Picture list[pictures_a_launch];
};

struct Output {
    float* values;  // (pictures, 3, height, width)
    unsigned height, width, tiles_across;
    bool area, swap_channels;
    float scale[3], offset[3];  // by output channel
};

// The inputs [first, end) of one output, and its filter, in input pixels from `first` on.
struct Footprint {
    unsigned first, end;
    float center, support;
};

__device__ Footprint footprint(const Direction& direction, unsigned output, bool area) {
    const double center = (static_cast<double>(direction.first + output) + 0.5) * direction.ratio;
    const double support = area ? direction.ratio / 2 : fmax(direction.ratio, 1.0);
    Footprint print{};
    print.first = static_cast<unsigned>(fmax(center - support, 0.0));
    print.end = min(static_cast<unsigned>(center + support) + 1, direction.inputs);
    print.center = static_cast<float>(center - print.first);
    print.support = static_cast<float>(support);
    return print;
}

// Weight of input first + i: of a box the part that lies in the pixel, of a triangle its height there.
__device__ float weight_of(const Footprint& print, int i, bool area) {
    const auto pixel = static_cast<float>(i);
    const float low = print.center - print.support, high = print.center + print.support;
    const float weight = area ? fminf(pixel + 1, high) - fmaxf(pixel, low)
                              : print.support - fabsf(pixel + 0.5F - print.center);
    return fmaxf(weight, 0.0F);
}

__device__ float sum_of_weights(const Footprint& print, bool area) {
    float sum = 0.0F;
    for (unsigned i = 0; i < print.end - print.first; ++i) sum += weight_of(print, static_cast<int>(i), area);
    return sum;
}

// Sums of this thread's byte column over all rows of the tile, one for each of its output rows.
__device__ void blend_column(const Picture& picture, const Footprint (&rows)[tile_height], unsigned column_byte,
                             bool area, float (&weights)[strip_rows][tile_height], float (&sums)[tile_height]) {
    for (float& sum : sums) sum = 0.0F;
    const unsigned begin = rows[0].first, end = rows[tile_height - 1].end;
    const bool inside = column_byte < 3 * picture.horizontal.inputs;
    for (unsigned strip = begin; strip < end; strip += strip_rows) {
        const unsigned row = threadIdx.x / tile_height, output = threadIdx.x % tile_height;
        const Footprint& print = rows[output];
        const int from_first = static_cast<int>(strip + row) - static_cast<int>(print.first);
        __syncthreads();  // the weights before are used up
        weights[row][output] = strip + row < print.end && from_first >= 0 ? weight_of(print, from_first, area) : 0.0F;
        __syncthreads();
        for (unsigned i = 0; i < min(strip_rows, end - strip) && inside; ++i) {
            const auto offset = static_cast<std::ptrdiff_t>(strip + i) * picture.row_stride + column_byte;
            const auto value = static_cast<float>(picture.pixels[offset]);
            for (unsigned o = 0; o < tile_height; ++o) sums[o] = __fmaf_rn(weights[i][o], value, sums[o]);
        }
    }
}

__global__ void __launch_bounds__(threads) resize(Pictures pictures, Output output) {
    __shared__ float weights[strip_rows][tile_height];
    __shared__ float blended[tile_height][3 * strip_columns];
    __shared__ Footprint rows[tile_height];
    const Picture& picture = pictures.list[blockIdx.y];
    const unsigned left = blockIdx.x % output.tiles_across * tile_width;
    const unsigned top = blockIdx.x / output.tiles_across * tile_height;
    const unsigned x = left + threadIdx.x % tile_width, y = top + threadIdx.x / tile_width;
    // Beyond the border a tile repeats its last row or column.
    if (threadIdx.x < tile_height) {
        rows[threadIdx.x] = footprint(picture.vertical, min(top + threadIdx.x, output.height - 1), output.area);
    }
    const Footprint column = footprint(picture.horizontal, min(x, output.width - 1), output.area);
    const unsigned begin = footprint(picture.horizontal, left, output.area).first;
    const unsigned end =
        footprint(picture.horizontal, min(left + tile_width, output.width) - 1, output.area).end;
    __syncthreads();
    float sums[3] = {};
    for (unsigned strip = begin; strip < end; strip += strip_columns) {
        float down[tile_height];
        blend_column(picture, rows, 3 * strip + threadIdx.x, output.area, weights, down);
        for (unsigned o = 0; o < tile_height; ++o) blended[o][threadIdx.x] = down[o];
        __syncthreads();
        const float* line = blended[threadIdx.x / tile_width];
        for (unsigned i = max(strip, column.first); i < min(strip + strip_columns, column.end); ++i) {
            const float weight = weight_of(column, static_cast<int>(i - column.first), output.area);
            for (unsigned c = 0; c < 3; ++c) sums[c] = __fmaf_rn(weight, line[3 * (i - strip) + c], sums[c]);
        }
        __syncthreads();
    }
    if (x >= output.width || y >= output.height) return;
    const float share =
        1.0F / (sum_of_weights(rows[threadIdx.x / tile_width], output.area) * sum_of_weights(column, output.area));
    for (unsigned c = 0; c < 3; ++c) {
        const float value = sums[output.swap_channels ? 2 - c : c] * share;
        const std::size_t line = (std::size_t{3} * blockIdx.y + c) * output.height + y;
        output.values[line * output.width + x] = __fmaf_rn(value, output.scale[c], output.offset[c]);
    }
}

Direction direction_of(const Axis& axis) {
    return {axis.ratio, static_cast<unsigned>(axis.inputs), static_cast<unsigned>(axis.first)};
}

Picture picture_of(const PixelView& image, const PreprocessRequest& request) {
    const Axes axes = axes_of(image, request);
    return {image.pixels, image.row_stride, direction_of(axes.vertical), direction_of(axes.horizontal)};
}

Output output_of(const PreprocessRequest& request, float* out) {
    Output output{};
    output.values = out;
    output.height = static_cast<unsigned>(request.height);
    output.width = static_cast<unsigned>(request.width);
    output.tiles_across = (output.width + tile_width - 1) / tile_width;
    output.area = request.resize == Resize::area;
    output.swap_channels = request.swap_channels;
    for (std::size_t c = 0; c < 3; ++c) {
        output.scale[c] = 1.0F / request.std[c];
        output.offset[c] = -request.mean[c] / request.std[c];
    }
    return output;
}

}  // namespace

std::size_t preprocess_scratch_bytes(const PreprocessRequest&) { return 0; }

void preprocess(const PreprocessRequest& request, const DeviceContext& context, float* out) {
    const OnDevice on_device(context.device);
    const std::size_t picture_values = 3 * request.height * request.width;
    for (std::size_t first = 0; first < request.images.size(); first += pictures_a_launch) {
        const std::size_t count = std::min<std::size_t>(pictures_a_launch, request.images.size() - first);
        Pictures pictures{};
        for (std::size_t i = 0; i < count; ++i) pictures.list[i] = picture_of(request.images[first + i], request);
        const Output output = output_of(request, out + first * picture_values);
        const unsigned tiles_down = (output.height + tile_height - 1) / tile_height;
        launch(resize, dim3(output.tiles_across * tiles_down, static_cast<unsigned>(count)), threads, 0,
               static_cast<cudaStream_t>(context.stream), pictures, output);
    }
}

}  // namespace bowerbird::cuda
