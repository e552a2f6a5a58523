// From the outputs of a detection network to boxes on a GPU.
// Legend: B images, A anchors, C classes, R bins a side, P candidates an image at most, M detections an image at most.
//
// The scores are read once and that is the floor: 8 images of 8,400 anchors and 80 classes are 21.5 MB, 5 us of an
// H200's memory (less if the network has just left them in the L2 cache). All else is latency, so: five launches, all
// images in each, nothing on the host between them, no sigmoid and no box but those of candidates.
//
//   zero     counters
//   collect  scores against the threshold; the pairs at or above it become keys (rank of the score before the flat
//            index), staged in shared memory, so that a block asks for room once; a histogram of their first 11 bits
//   narrow   only where an image has more than 8,192 keys: those in bins up to that of the P-th go to a second, short
//            list. So a low threshold does not leave one block an image with everything.
//   select   a block an image: the P best in order (topk.cuh)
//   suppress decodes each candidate once, then suppresses by class (suppression.cuh; all classes in one segment: so it
//            can stop at M detections, in most images after two or three steps of 64), and writes the result
//   or softly: one block an image, M picks (soft_suppression.cuh)
//
// About 25 us are expected on an H200 at that size, P = 1,000 and M = 100. The order of keys in the lists is one of
// many; the keys differ, so what is selected and its order do not depend on it.
//
// Bits: float32 operations in the order of src/detection_postprocess.cpp, never fused (-fmad=false). Only the
// exponentials of the sigmoid and of dw, dh go through double; they and the host's agree to 1 ulp of double, so the
// rounded results differ about once in 2^28.
// Reference: src/bowerbird/native/reference/detection_postprocess.py.
#include "bowerbird/detection_postprocess.hpp"

#include <algorithm>

#include "scratch.cuh"
#include "soft_suppression.cuh"
#include "suppression.cuh"

namespace bowerbird::cuda {
namespace {

constexpr unsigned collect_threads = 256;
constexpr unsigned thread_scores = 16;  // loads in flight: 16 KB a block, some 80 KB a multiprocessor
constexpr unsigned tile_scores = collect_threads * thread_scores;
constexpr unsigned bin_bits = 11;
constexpr unsigned num_bins = 1U << bin_bits;
constexpr unsigned many_keys = 8192;  // more than these are narrowed

// The P candidates, and what leads to them.
struct Lists {
    Key *keys, *narrowed, *candidates;  // (B, A C), (B, narrowed_size), (B, P)
    unsigned *num_keys, *num_narrowed, *num_candidates;  // (B)
    unsigned* bins;                     // (B, num_bins)
    std::size_t num_pairs;              // A C of an image
    std::size_t narrowed_size, most_candidates;
};

struct Task {
    DetectionRequest request;
    float4 delta_weights;
    Detections out;
    Lists lists;
};

__device__ unsigned bin_of(Key key) { return static_cast<unsigned>(key >> (64 - bin_bits)); }

// ---- collect ----

__device__ bool is_wanted(const DetectionRequest& request, std::size_t pair) {
    return request.wanted == nullptr || request.wanted[pair % request.num_classes] != 0;
}

__device__ void add_to_bins(const Key* keys, unsigned count, unsigned* image_bins) {
    __shared__ unsigned bins[num_bins];
    for (unsigned i = threadIdx.x; i < num_bins; i += collect_threads) bins[i] = 0;
    __syncthreads();
    for (unsigned i = threadIdx.x; i < count; i += collect_threads) atomicAdd(&bins[bin_of(keys[i])], 1U);
    __syncthreads();
    for (unsigned i = threadIdx.x; i < num_bins; i += collect_threads) {
        if (bins[i] != 0) atomicAdd(image_bins + i, bins[i]);
    }
}

__global__ void __launch_bounds__(collect_threads) collect(const Task task, unsigned image_tiles) {
    __shared__ Key found[tile_scores];
    __shared__ unsigned num_found, first_place;
    const unsigned image = blockIdx.x / image_tiles;
    const std::size_t first = std::size_t{blockIdx.x % image_tiles} * tile_scores + threadIdx.x;
    const float* scores = task.request.scores + image * task.lists.num_pairs;
    if (threadIdx.x == 0) num_found = 0;
    float score[thread_scores];
#pragma unroll
    for (unsigned i = 0; i < thread_scores; ++i) {
        const std::size_t pair = first + i * collect_threads;
        score[i] = pair < task.lists.num_pairs ? scores[pair] : __uint_as_float(0x7FC00000U);  // NaN is below
    }
    __syncthreads();
#pragma unroll
    for (unsigned i = 0; i < thread_scores; ++i) {
        const std::size_t pair = first + i * collect_threads;
        const bool hit = score[i] >= task.request.min_score && is_wanted(task.request, pair);
        const unsigned place = reserve(hit, &num_found);
        if (hit) found[place] = Key{rank_of(score[i])} << 32 | pair;
    }
    __syncthreads();
    if (num_found == 0) return;
    if (threadIdx.x == 0) first_place = atomicAdd(task.lists.num_keys + image, num_found);
    add_to_bins(found, num_found, task.lists.bins + std::size_t{image} * num_bins);  // has a barrier
    Key* keys = task.lists.keys + image * task.lists.num_pairs + first_place;
    for (unsigned i = threadIdx.x; i < num_found; i += collect_threads) keys[i] = found[i];
}

// ---- narrow ----

// The bin of the image's `wanted`-th key; there are as many.
__device__ unsigned bin_of_last(const unsigned* bins, unsigned wanted) {
    constexpr unsigned thread_bins = num_bins / collect_threads, warps = collect_threads / warp_lanes;
    __shared__ unsigned of_warps[warps], last;
    const unsigned lane = threadIdx.x % warp_lanes, warp = threadIdx.x / warp_lanes;
    unsigned mine[thread_bins], sum = 0;
    for (unsigned i = 0; i < thread_bins; ++i) sum += mine[i] = bins[threadIdx.x * thread_bins + i];
    unsigned up_to = sum;
    for (unsigned offset = 1; offset < warp_lanes; offset *= 2) {
        const unsigned other = __shfl_up_sync(every_lane, up_to, offset);
        if (lane >= offset) up_to += other;
    }
    if (lane == warp_lanes - 1) of_warps[warp] = up_to;
    __syncthreads();
    for (unsigned i = 0; i < warp; ++i) up_to += of_warps[i];
    unsigned before = up_to - sum;
    for (unsigned i = 0; i < thread_bins; before += mine[i++]) {
        if (before < wanted && wanted <= before + mine[i]) last = threadIdx.x * thread_bins + i;
    }
    __syncthreads();
    return last;
}

__global__ void __launch_bounds__(collect_threads) narrow(const Task task, unsigned image_blocks) {
    __shared__ unsigned num_taken, first_place;
    const Lists& lists = task.lists;
    const unsigned image = blockIdx.x / image_blocks, count = lists.num_keys[image];
    const unsigned wanted = static_cast<unsigned>(lists.most_candidates);
    if (count <= many_keys || count <= wanted) return;
    const unsigned last = bin_of_last(lists.bins + std::size_t{image} * num_bins, wanted);
    const Key* keys = lists.keys + image * lists.num_pairs;
    Key* narrowed = lists.narrowed + image * lists.narrowed_size;
    for (std::size_t first = blockIdx.x % image_blocks * std::size_t{tile_scores}; first < count;
         first += std::size_t{image_blocks} * tile_scores) {
        if (threadIdx.x == 0) num_taken = 0;
        __syncthreads();
        Key taken[thread_scores];
        unsigned place[thread_scores];
#pragma unroll
        for (unsigned i = 0; i < thread_scores; ++i) {
            const std::size_t at = first + i * collect_threads + threadIdx.x;
            taken[i] = at < count ? keys[at] : no_key;
        }
#pragma unroll
        for (unsigned i = 0; i < thread_scores; ++i) {
            if (bin_of(taken[i]) > last) taken[i] = no_key;
            place[i] = reserve(taken[i] != no_key, &num_taken);
        }
        __syncthreads();
        if (threadIdx.x == 0) first_place = atomicAdd(lists.num_narrowed + image, num_taken);
        __syncthreads();
#pragma unroll
        for (unsigned i = 0; i < thread_scores; ++i) {
            const std::size_t to = std::size_t{first_place} + place[i];
            if (taken[i] != no_key && to < lists.narrowed_size) narrowed[to] = taken[i];
        }
    }
}

// ---- select ----

// The shortest list that has all candidates of the image.
__device__ KeyArray keys_of(const Lists& lists, unsigned image) {
    const unsigned narrowed = lists.num_narrowed[image];
    if (narrowed > 0 && narrowed <= lists.narrowed_size) {
        return {lists.narrowed + image * lists.narrowed_size, narrowed};
    }
    return {lists.keys + image * lists.num_pairs, lists.num_keys[image]};
}

// Without candidates an image has one empty chunk, so that its result is written all the same.
__global__ void __launch_bounds__(topk_threads, 2) select(const Task task, const ChunkList list) {
    __shared__ Key shared_keys[sorted_in_shared];
    const Lists& lists = task.lists;
    const unsigned image = blockIdx.x, there = lists.num_keys[image];
    const auto most = static_cast<unsigned>(lists.most_candidates);
    const unsigned wanted = there < most ? there : most;
    Key* candidates = lists.candidates + image * lists.most_candidates;
    const Key* best = smallest_keys(keys_of(lists, image), wanted, 64, shared_keys, candidates);
    for (unsigned i = threadIdx.x; i < wanted; i += topk_threads) candidates[i] = best[i];
    if (threadIdx.x != 0) return;
    lists.num_candidates[image] = wanted;
    Chunk* chunks = list.chunks + atomicAdd(list.num_chunks, max(chunks_of(wanted), 1U));
    *chunks = {image, 0, 0, 0};
    cut(image, 0, wanted, chunks);
}

// ---- decode ----

// exp(x) for x <= 0 as src/detection_postprocess.cpp computes it, to the bit.
__device__ float exp_of_negative(float x) {
    x = x < -88.0F ? -88.0F : x;
    const int n = __float2int_rz(x * 1.44269504F - 0.5F);
    const auto whole = static_cast<float>(n);
    const float r = x - whole * 0.693359375F + whole * 2.12194440e-4F;
    float sum = 1.0F / 5040.0F;
    sum = sum * r + 1.0F / 720.0F;
    sum = sum * r + 1.0F / 120.0F;
    sum = sum * r + 1.0F / 24.0F;
    sum = sum * r + 1.0F / 6.0F;
    sum = sum * r + 0.5F;
    sum = sum * r + 1.0F;
    sum = sum * r + 1.0F;
    return sum * __int_as_float((n + 127) << 23);
}

// Mean bin under the softmax of the logits; one bin is the distance itself.
__device__ float expectation(const float* logits, std::size_t bins) {
    if (bins == 1) return logits[0];
    float top = logits[0];
    for (std::size_t bin = 1; bin < bins; ++bin) top = fmaxf(top, logits[bin]);
    float sum = 0.0F, weighted = 0.0F;
    for (std::size_t bin = 0; bin < bins; ++bin) {
        const float weight = exp_of_negative(logits[bin] - top);
        sum += weight;
        weighted += weight * static_cast<float>(bin);
    }
    return weighted / sum;
}

// Both ends along one axis.
__device__ float2 ends_from_deltas(float shift, float scale, float low, float high, float2 weights) {
    const float size = high - low;
    const float center = low + 0.5F * size;
    const float moved = shift / weights.x * size + center;
    const float log_scale = scale / weights.y;
    const float cut = max_log_scale < log_scale ? max_log_scale : log_scale;
    const float half = 0.5F * (static_cast<float>(exp(static_cast<double>(cut))) * size);
    return make_float2(moved - half, moved + half);
}

__device__ float4 from_deltas(const Task& task, const float* raw, std::size_t anchor) {
    const float4 weights = task.delta_weights, base = corners_at(task.request.anchors + anchor * 4);
    const float2 x = ends_from_deltas(raw[0], raw[2], base.x, base.z, make_float2(weights.x, weights.z));
    const float2 y = ends_from_deltas(raw[1], raw[3], base.y, base.w, make_float2(weights.y, weights.w));
    return make_float4(x.x, y.x, x.y, y.y);
}

__device__ float4 from_distances(const Task& task, const float* raw, std::size_t anchor) {
    const float* point = task.request.anchors + anchor * 3;
    const float x = point[0], y = point[1], stride = point[2];
    const std::size_t bins = task.request.num_bins;
    const float left = expectation(raw, bins) * stride, top = expectation(raw + bins, bins) * stride;
    const float right = expectation(raw + 2 * bins, bins) * stride, bottom = expectation(raw + 3 * bins, bins) * stride;
    return make_float4(x - left, y - top, x + right, y + bottom);
}

__device__ float cut_to(float value, float highest) { return value < 0.0F ? 0.0F : highest < value ? highest : value; }

// The box of an anchor; it does not exist if it is empty or not finite.
__device__ Candidate decode(const Task& task, unsigned image, std::size_t anchor, long long class_id) {
    const DetectionRequest& request = task.request;
    const std::size_t numbers = 4 * request.num_bins;
    const float* raw = request.boxes + (image * request.num_anchors + anchor) * numbers;
    bool finite = true;
    for (std::size_t i = 0; i < numbers; ++i) finite = finite && is_finite(raw[i]);
    float4 corners = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
    if (finite) {
        switch (request.decoding) {
            case Decoding::none: corners = corners_at(raw); break;
            case Decoding::deltas: corners = from_deltas(task, raw, anchor); break;
            case Decoding::distances: corners = from_distances(task, raw, anchor); break;
        }
    }
    finite = finite && is_finite(corners);
    if (request.clip) {
        corners = make_float4(cut_to(corners.x, request.image_width), cut_to(corners.y, request.image_height),
                              cut_to(corners.z, request.image_width), cut_to(corners.w, request.image_height));
    }
    return {corners, area_of(corners), class_id, finite && corners.x < corners.z && corners.y < corners.w};
}

// ---- suppress ----

// Candidates in order, decoded when asked for; and the result.
struct Decoded {
    Task task;

    __device__ unsigned count(unsigned image) const { return task.lists.num_candidates[image]; }

    __device__ unsigned pair(unsigned image, unsigned place) const {
        return static_cast<unsigned>(task.lists.candidates[image * task.lists.most_candidates + place]);
    }

    __device__ Candidate candidate(unsigned image, unsigned place) const {
        const std::size_t flat = pair(image, place), classes = task.request.num_classes;
        return decode(task, image, flat / classes, static_cast<long long>(flat % classes));
    }

    __device__ float score(unsigned image, unsigned place) const {
        const float score = task.request.scores[image * task.lists.num_pairs + pair(image, place)];
        if (task.request.activation == Activation::none) return score;
        return static_cast<float>(1.0 / (1.0 + exp(-static_cast<double>(score))));
    }

    __device__ void keep(unsigned image, unsigned place, unsigned number, const Candidate& box) const {
        pick(image, number, place, score(image, place), box);
    }

    __device__ void pick(unsigned image, unsigned number, unsigned, float score, const Candidate& box) const {
        const std::size_t to = image * task.request.max_detections + number;
        float* corners = task.out.boxes + to * 4;
        corners[0] = box.corners.x;
        corners[1] = box.corners.y;
        corners[2] = box.corners.z;
        corners[3] = box.corners.w;
        task.out.scores[to] = score;
        task.out.classes[to] = box.class_id;
    }

    __device__ void finish(unsigned image, unsigned found) const {
        const std::size_t most = task.request.max_detections;
        for (std::size_t number = std::size_t{found} + threadIdx.x; number < most; number += blockDim.x) {
            pick(image, static_cast<unsigned>(number), 0, 0.0F, {make_float4(0.0F, 0.0F, 0.0F, 0.0F), 0.0F, -1, false});
        }
        if (threadIdx.x == 0) task.out.counts[image] = static_cast<std::int32_t>(found);
    }
};

// ---- launches ----

// Scratch memory; what is zeroed at first stands in front.
struct Memory {
    Lists lists{};
    ChunkList list{};
    SoftBoxes soft{};
    std::size_t zeroed_bytes, bytes;

    Memory(const DetectionRequest& request, void* scratch) {
        const std::size_t images = request.num_images;
        lists.num_pairs = request.num_anchors * request.num_classes;
        lists.most_candidates = std::min(request.max_candidates, lists.num_pairs);
        const std::size_t roomy = std::max<std::size_t>(4 * lists.most_candidates, 8 * many_keys);
        lists.narrowed_size = std::min(lists.num_pairs, roomy);
        list.num_places = lists.most_candidates;
        list.most_chunks = images * (lists.most_candidates / chunk_boxes + 1);
        Scratch take(scratch);
        lists.num_keys = take.array<unsigned>(images);
        lists.num_narrowed = take.array<unsigned>(images);
        lists.bins = take.array<unsigned>(images * num_bins);
        list.num_chunks = take.array<unsigned>(1);
        list.ticket = take.array<unsigned>(1);
        list.progress = take.array<unsigned>(list.most_chunks);
        zeroed_bytes = take.bytes();
        list.chunks = take.array<Chunk>(list.most_chunks);
        lists.num_candidates = take.array<unsigned>(images);
        lists.candidates = take.array<Key>(images * lists.most_candidates);
        lists.keys = take.array<Key>(images * lists.num_pairs);
        lists.narrowed = take.array<Key>(images * lists.narrowed_size);
        list.kept_corners = soft.corners = take.array<float4>(images * lists.most_candidates);
        list.kept_classes = soft.classes = take.array<long long>(images * lists.most_candidates);
        soft.scores = take.array<float>(images * lists.most_candidates);
        bytes = take.bytes();
    }
};

void select_candidates(const Task& task, const Memory& memory, cudaStream_t stream) {
    constexpr unsigned narrowing_blocks = 64;  // of an image at most
    const std::size_t tiles = (task.lists.num_pairs + tile_scores - 1) / tile_scores;
    const std::size_t images = task.request.num_images;
    const auto image_tiles = static_cast<unsigned>(tiles);
    if (tiles > 0) {
        launch(&collect, blocks_of(images * image_tiles), collect_threads, 0, stream, task, image_tiles);
        const unsigned image_blocks = std::min(image_tiles, narrowing_blocks);
        launch(&narrow, blocks_of(images * image_blocks), collect_threads, 0, stream, task, image_blocks);
    }
    launch(&select, blocks_of(images), topk_threads, 0, stream, task, memory.list);
}

}  // namespace

std::size_t detection_postprocess_scratch_bytes(const DetectionRequest& request) {
    return Memory(request, nullptr).bytes;
}

void detection_postprocess(const DetectionRequest& request, const DeviceContext& context,
                           const Detections& detections) {
    if (request.num_images == 0) return;
    const OnDevice on_device(context.device);
    const auto stream = static_cast<cudaStream_t>(context.stream);
    const Memory memory(request, context.scratch);
    const auto [x, y, width, height] = request.delta_weights;
    const Task task{request, make_float4(x, y, width, height), detections, memory.lists};
    check(cudaMemsetAsync(context.scratch, 0, memory.zeroed_bytes, stream), "cudaMemsetAsync");
    select_candidates(task, memory, stream);
    if (request.soft_sigma > 0.0F) {
        const SoftRule rule{true, request.soft_sigma, request.max_iou, request.soft_min_score};
        launch(&suppress_softly<Decoded>, blocks_of(request.num_images), soft_threads, 0, stream,
               Decoded{task}, memory.soft, static_cast<unsigned>(memory.lists.most_candidates), rule,
               static_cast<unsigned>(request.max_detections));
        return;
    }
    launch_suppression(Decoded{task}, memory.list, request.max_iou, request.max_detections, context.device, stream);
}

}  // namespace bowerbird::cuda
