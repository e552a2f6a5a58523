// Regions of feature maps on a GPU, sampled to one size.
// Legend: B maps of C channels, H x W; R boxes; h x w bins a box.
//
// The floor is writing the result: 1,000 boxes of 7 x 7 bins and 256 channels are 50 MB, 12 us at the 4.3 TB/s that a
// copy reaches on an H200; the maps are read from the L2 cache. A block fills tiles of 32 bins and 64 channels of a box.
// Positions, in float64 as the host has them, are computed once for the 8 channels of a thread, or for all lanes.
// Channels first: lanes are bins, so that stores are whole lines; the loads of a warp fall on a few rows of one plane.
// Channels last: lanes are channels, so that loads are whole lines; the bins turn round in shared memory.
// Reference: src/bowerbird/native/reference/roi_align.py.
#include "bowerbird/roi_align.hpp"

#include <algorithm>

#include "launch.cuh"

namespace bowerbird::cuda {
namespace {

constexpr unsigned warp_lanes = 32, threads = 256, warps = threads / warp_lanes;
constexpr unsigned tile_bins = warp_lanes, tile_channels = 64;
constexpr std::size_t most_blocks = 1 << 20;

struct Maps {
    const float* features;
    std::size_t images, channels, height, width;
    std::ptrdiff_t image_stride, channel_stride, row_stride, column_stride;
};

struct Regions {
    const float* boxes;
    const std::int64_t* images;
    std::size_t count;
    unsigned height, width;  // bins
    double scale;
    unsigned sampling_ratio;
    bool aligned;
};

// One direction of a box.
struct Side {
    double start, bin, samples;
    int lines;
};

__device__ Side side_of(const Regions& regions, float low, float high, unsigned bins, std::size_t lines) {
    const double shift = regions.aligned ? 0.5 : 0.0;
    Side side{};
    side.start = __dadd_rn(__dmul_rn(low, regions.scale), -shift);
    double length = __dadd_rn(__dadd_rn(__dmul_rn(high, regions.scale), -shift), -side.start);
    if (!regions.aligned) length = fmax(length, 1.0);
    side.bin = __ddiv_rn(length, bins);
    side.samples = regions.sampling_ratio == 0 ? fmax(ceil(side.bin), 0.0) : regions.sampling_ratio;
    side.lines = static_cast<int>(lines);
    return side;
}

// The samples of one bin that may lie within a pixel of the map.
struct Samples {
    double start, first;
    int count;
};

__device__ Samples samples_of(const Side& side, unsigned i) {
    Samples samples{__dadd_rn(side.start, __dmul_rn(i, side.bin)), 0.0, 0};
    const double step = __ddiv_rn(side.bin, side.samples);
    double count = side.samples;
    if (step > 0) {
        samples.first = fmin(fmax(floor((-1 - samples.start) / step - 1), 0.0), side.samples);
        count = fmin(side.samples - samples.first, ceil((side.lines + 1) / step) + 4);
    }
    samples.count = static_cast<int>(count);
    return samples;
}

// The two lines around a sample, and the part of the second; false where it counts as zero.
struct Between {
    int low, high;
    float part;
};

__device__ bool locate(const Side& side, const Samples& samples, int s, Between& between) {
    const double position = samples.first + s + 0.5;
    const double at = __dadd_rn(samples.start, __ddiv_rn(__dmul_rn(position, side.bin), side.samples));
    if (!(at >= -1 && at <= side.lines)) return false;
    const double inside = fmin(fmax(at, 0.0), static_cast<double>(side.lines - 1)), below = floor(inside);
    between.low = static_cast<int>(below);
    between.high = min(between.low + 1, side.lines - 1);
    between.part = static_cast<float>(inside - below);
    return true;
}

__device__ bool usable(const Maps& maps, const Regions& regions, std::size_t r) {
    const std::int64_t image = regions.images[r];
    if (image < 0 || image >= static_cast<std::int64_t>(maps.images)) return false;
    for (unsigned i = 0; i < 4; ++i) {
        if (!isfinite(regions.boxes[4 * r + i])) return false;
    }
    return true;
}

// Bins of `count` channels, from `first` on and `step` apart; those from C on stay zero.
template <unsigned count>
__device__ void sum_bin(const Maps& maps, const Regions& regions, std::size_t r, unsigned bin, std::size_t first,
                        unsigned step, float (&sums)[count]) {
    for (float& sum : sums) sum = 0.0F;
    if (bin >= regions.height * regions.width || !usable(maps, regions, r)) return;
    const float* box = regions.boxes + 4 * r;
    const Side rows = side_of(regions, box[1], box[3], regions.height, maps.height);
    const Side columns = side_of(regions, box[0], box[2], regions.width, maps.width);
    const Samples down = samples_of(rows, bin / regions.width), across = samples_of(columns, bin % regions.width);
    const float* map = maps.features + regions.images[r] * maps.image_stride;
    for (int s = 0; s < down.count; ++s) {
        Between y{}, x{};
        if (!locate(rows, down, s, y)) continue;
        const float* above = map + y.low * maps.row_stride;
        const float* below = map + y.high * maps.row_stride;
        for (int t = 0; t < across.count; ++t) {
            if (!locate(columns, across, t, x)) continue;
            const std::ptrdiff_t left = x.low * maps.column_stride, right = x.high * maps.column_stride;
            for (unsigned k = 0; k < count; ++k) {
                const std::size_t channel = first + k * step;
                if (channel >= maps.channels) continue;
                const std::ptrdiff_t plane = static_cast<std::ptrdiff_t>(channel) * maps.channel_stride;
                const float upper = (1 - x.part) * above[plane + left] + x.part * above[plane + right];
                const float lower = (1 - x.part) * below[plane + left] + x.part * below[plane + right];
                sums[k] += (1 - y.part) * upper + y.part * lower;
            }
        }
    }
    if (down.count == 0 || across.count == 0) return;
    const auto share = static_cast<float>(1.0 / (rows.samples * columns.samples));
    for (float& sum : sums) sum *= share;
}

// Where a tile stands: box, then channels, then bins.
struct Tile {
    std::size_t box, first_channel;
    unsigned first_bin;
};

__device__ Tile tile_at(std::size_t index, std::size_t bin_tiles, std::size_t channel_tiles) {
    return {index / bin_tiles / channel_tiles, index / bin_tiles % channel_tiles * tile_channels,
            static_cast<unsigned>(index % bin_tiles) * tile_bins};
}

__global__ void __launch_bounds__(threads)
    align_channels_first(Maps maps, Regions regions, std::size_t bin_tiles, std::size_t channel_tiles, float* out) {
    constexpr unsigned share = tile_channels / warps;
    const unsigned lane = threadIdx.x % warp_lanes, warp = threadIdx.x / warp_lanes;
    const unsigned bins = regions.height * regions.width;
    for (std::size_t i = blockIdx.x; i < regions.count * bin_tiles * channel_tiles; i += gridDim.x) {
        const Tile tile = tile_at(i, bin_tiles, channel_tiles);
        const unsigned bin = tile.first_bin + lane;
        const std::size_t first = tile.first_channel + warp * share;
        float sums[share];
        sum_bin(maps, regions, tile.box, bin, first, 1, sums);
        for (unsigned k = 0; k < share && bin < bins; ++k) {
            if (first + k < maps.channels) out[(tile.box * maps.channels + first + k) * bins + bin] = sums[k];
        }
    }
}

__global__ void __launch_bounds__(threads)
    align_channels_last(Maps maps, Regions regions, std::size_t bin_tiles, std::size_t channel_tiles, float* out) {
    constexpr unsigned share = tile_channels / warp_lanes;
    __shared__ float turned[tile_channels][tile_bins + 1];  // one more: lanes of a column fall on different banks
    const unsigned lane = threadIdx.x % warp_lanes, warp = threadIdx.x / warp_lanes;
    const unsigned bins = regions.height * regions.width;
    for (std::size_t i = blockIdx.x; i < regions.count * bin_tiles * channel_tiles; i += gridDim.x) {
        const Tile tile = tile_at(i, bin_tiles, channel_tiles);
        for (unsigned b = warp; b < tile_bins; b += warps) {
            float sums[share];
            sum_bin(maps, regions, tile.box, tile.first_bin + b, tile.first_channel + lane, warp_lanes, sums);
            for (unsigned k = 0; k < share; ++k) turned[lane + k * warp_lanes][b] = sums[k];
        }
        __syncthreads();
        const unsigned bin = tile.first_bin + lane;
        for (unsigned c = warp; c < tile_channels && bin < bins; c += warps) {
            const std::size_t channel = tile.first_channel + c;
            if (channel < maps.channels) out[(tile.box * maps.channels + channel) * bins + bin] = turned[c][lane];
        }
        __syncthreads();
    }
}

}  // namespace

std::size_t roi_align_scratch_bytes(const RoiAlignRequest&) { return 0; }

void roi_align(const RoiAlignRequest& request, const DeviceContext& context, float* out) {
    const auto& [images, channels, height, width] = request.shape;
    const auto& [image_stride, channel_stride, row_stride, column_stride] = request.strides;
    const std::size_t bin_tiles = (request.height * request.width + tile_bins - 1) / tile_bins;
    const std::size_t channel_tiles = (channels + tile_channels - 1) / tile_channels;
    const std::size_t tiles = request.num_boxes * bin_tiles * channel_tiles;
    if (tiles == 0) return;
    const OnDevice on_device(context.device);
    const Maps maps{request.features, images, channels, height, width, image_stride, channel_stride, row_stride,
                    column_stride};
    const Regions regions{request.boxes,
                          request.images,
                          request.num_boxes,
                          static_cast<unsigned>(request.height),
                          static_cast<unsigned>(request.width),
                          request.spatial_scale,
                          static_cast<unsigned>(request.sampling_ratio),
                          request.aligned};
    launch(channel_stride == 1 ? align_channels_last : align_channels_first,
           static_cast<unsigned>(std::min(tiles, most_blocks)), threads, 0,
           static_cast<cudaStream_t>(context.stream), maps, regions, bin_tiles, channel_tiles, out);
}

}  // namespace bowerbird::cuda
