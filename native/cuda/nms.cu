// Non-maximum suppression on a GPU, greedy for a batch of images, and soft.
// Legend: B images, N boxes of an image, M kept boxes of an image at most.
//
// Greedy suppression of 8 images of 20,000 boxes of 80 classes reads 4.5 MB (boxes, scores, classes), 1 us of an
// H200's memory, and compares 4 million pairs (counted: suppression.cuh) at some 16 instructions, 64 million: 2 us on
// 16,900 lanes at 1.7 GHz. Neither binds. What does is latency: launches one behind the other, and within them
// barriers and trips to the L2 cache. So: few launches, all images in each, no waiting of the host, nothing serial
// that is longer than a class.
//
//   zero      counters
//   rank      a key a box: rank of its score before its index; the box and score that are not finite are left out
//   sort x4   stable radix sort by score, a byte a launch (radix_sort.cuh); equal scores stay in the order of indices
//   group     one more pass, by a hash of the class to a byte: classes become contiguous, each still best box first.
//             80 classes do not collide, 1,200 do (five a bucket, so boxes are compared only where classes are equal);
//             any int64 is a class. It also cuts the buckets into chunks.
//   suppress  all chunks of all images (suppression.cuh); a survivor sets the bit of its place in the order of scores
//   emit      the first M set bits, as indices
//
// Nine launches, 2 to 3 us each with what they do, and 5 to 10 us for suppression: 25 to 35 us expected on an H200, as
// long as the host queues them as fast. torchvision's kernel (nms_kernel.cu) takes the images one after the other and
// has for each 200 million pairs (110 us of arithmetic at the same 16 instructions, more with its division), a bit
// matrix of 50 MB and a serial walk over it by one block.
//
// Soft-NMS is one launch (soft_suppression.cuh).
// References: src/bowerbird/native/reference/nms.py; bits are those of src/nms.cpp (compile with -fmad=false).
#include "bowerbird/nms.hpp"

#include <algorithm>

#include "radix_sort.cuh"
#include "scratch.cuh"
#include "soft_suppression.cuh"
#include "suppression.cuh"

namespace bowerbird::cuda {
namespace {

constexpr unsigned num_passes = 5;  // four bytes of the score, and the class
constexpr unsigned first_byte = 32;
constexpr unsigned word_bits = 32;
constexpr unsigned emit_threads = sort_threads;

__device__ Candidate box_of(const NmsRequest& request, std::size_t box) {
    const float4 corners = corners_at(request.boxes + box * 4);
    const long long class_id = request.classes == nullptr ? 0 : request.classes[box];
    return {corners, area_of(corners), class_id, is_finite(corners) && is_finite(request.scores[box])};
}

// ---- rank ----

__device__ unsigned rank_in(const NmsRequest& request, unsigned image, unsigned index) {
    if (request.counts != nullptr && static_cast<long long>(index) >= request.counts[image]) return left_out;
    const std::size_t box = std::size_t{image} * request.num_boxes + index;
    const float score = request.scores[box];
    return is_finite(score) && is_finite(corners_at(request.boxes + box * 4)) ? rank_of(score) : left_out;
}

// Key of every box, and the counts of the first pass.
__global__ void __launch_bounds__(sort_threads)
    rank_boxes(const NmsRequest request, const Rows rows, Key* keys, unsigned* counts) {
    __shared__ unsigned bins[num_digits];
    const Tile tile(rows);
    bins[threadIdx.x] = 0;
    __syncthreads();
    for (unsigned i = 0; i < thread_entries; ++i) {
        const unsigned index = tile.number * tile_entries + i * sort_threads + threadIdx.x;
        if (index >= rows.length) continue;
        const Key key = Key{rank_in(request, tile.row, index)} << 32 | index;
        keys[tile.first_entry + index] = key;
        atomicAdd(&bins[ByteOf{first_byte}(tile.row, key)], 1U);
    }
    __syncthreads();
    counts[tile.first_counter + std::size_t{tile.number} * num_digits + threadIdx.x] = bins[threadIdx.x];
}

// ---- group ----

// The bytes of the class, one over the other: the classes 0 to 255 stay apart.
struct BucketOf {
    const std::int64_t* classes;
    std::size_t num_boxes;

    __device__ unsigned operator()(unsigned image, Key key) const {
        if (key >> 32 == left_out) return no_digit;
        if (classes == nullptr) return 0;
        auto bytes = static_cast<unsigned long long>(classes[image * num_boxes + static_cast<unsigned>(key)]);
        bytes ^= bytes >> 32;
        bytes ^= bytes >> 16;
        bytes ^= bytes >> 8;
        return static_cast<unsigned>(bytes) & (num_digits - 1);
    }
};

// Each thread cuts its bucket into chunks.
__device__ void cut_into_chunks(unsigned image, const DigitRange& bucket, const ChunkList& list) {
    __shared__ unsigned of_warps[sort_warps], first_chunk;
    const Sums sums = sums_of(chunks_of(bucket.count), of_warps);
    if (threadIdx.x == 0) first_chunk = atomicAdd(list.num_chunks, sums.all);
    __syncthreads();
    cut(image, bucket.start, bucket.start + bucket.count, list.chunks + first_chunk + sums.before);
}

// Order by bucket; a key's high half becomes its place in the order of scores.
__global__ void __launch_bounds__(sort_threads)
    group_by_class(const Rows rows, const BucketOf bucket_of, const Key* sorted, const unsigned* counts, Key* grouped,
                   const ChunkList list) {
    const Tile tile(rows);
    const DigitRange bucket =
        scatter_tile(rows, tile, sorted, counts, bucket_of, [&](unsigned place, Key key, unsigned position) {
            grouped[tile.first_entry + place] = Key{position} << 32 | (key & 0xFFFFFFFFU);
        });
    if (tile.number == 0) cut_into_chunks(tile.row, bucket, list);
}

// ---- suppress ----

// Boxes in groups; survivors become bits.
struct GroupedBoxes {
    NmsRequest request;
    const Key* grouped;
    unsigned* survivors;  // (B, words) bits, in the order of scores
    std::size_t words;

    __device__ Key key(unsigned image, unsigned place) const { return grouped[image * request.num_boxes + place]; }

    __device__ Candidate candidate(unsigned image, unsigned place) const {
        return box_of(request, image * request.num_boxes + static_cast<unsigned>(key(image, place)));
    }

    __device__ void keep(unsigned image, unsigned place, unsigned, const Candidate&) const {
        const auto position = static_cast<unsigned>(key(image, place) >> 32);
        atomicOr(survivors + image * words + position / word_bits, 1U << position % word_bits);
    }

    __device__ void finish(unsigned, unsigned) const {}
};

// ---- emit ----

// Each block takes 256 words of bits, and its share of the padding.
__global__ void __launch_bounds__(emit_threads)
    emit_survivors(const NmsRequest request, const Key* sorted, const unsigned* survivors, unsigned words,
                   unsigned image_blocks, std::int64_t* indices, std::int32_t* counts) {
    __shared__ unsigned of_warps[sort_warps];
    const unsigned image = blockIdx.x / image_blocks, block = blockIdx.x % image_blocks;
    const unsigned* image_words = survivors + std::size_t{image} * words;
    const unsigned first = block * emit_threads, mine = first + threadIdx.x;
    unsigned before = 0, all = 0;
    for (unsigned i = threadIdx.x; i < words; i += emit_threads) {
        const auto count = static_cast<unsigned>(__popc(image_words[i]));
        if (i < first) before += count;
        all += count;
    }
    before = sums_of(before, of_warps).all;
    all = sums_of(all, of_warps).all;
    unsigned bits = mine < words ? image_words[mine] : 0;
    std::size_t place = before + sums_of(static_cast<unsigned>(__popc(bits)), of_warps).before;

    std::int64_t* row = indices + image * request.max_kept;
    for (; bits != 0 && place < request.max_kept; bits &= bits - 1, ++place) {
        const auto bit = static_cast<unsigned>(__ffs(static_cast<int>(bits)) - 1);
        const Key key = sorted[image * request.num_boxes + std::size_t{mine} * word_bits + bit];
        row[place] = static_cast<std::int64_t>(key & 0xFFFFFFFFU);
    }
    for (std::size_t i = std::size_t{all} + mine; i < request.max_kept; i += image_blocks * emit_threads) row[i] = -1;
    const std::size_t most = request.max_kept;
    if (mine == 0) counts[image] = static_cast<std::int32_t>(all < most ? all : most);
}

// ---- launches ----

// Scratch memory; what is zeroed at first stands in front.
struct Memory {
    unsigned *counts, *survivors;
    std::size_t zeroed_bytes;
    Key *keys, *other_keys;
    ChunkList list{};
    unsigned words;
    std::size_t bytes;

    Memory(const NmsRequest& request, void* scratch) {
        const std::size_t images = request.num_images, boxes = images * request.num_boxes;
        words = static_cast<unsigned>((request.num_boxes + word_bits - 1) / word_bits);
        list.num_places = request.num_boxes;
        list.most_chunks = images * std::min(request.num_boxes, request.num_boxes / chunk_boxes + num_digits);
        Scratch take(scratch);
        counts = take.array<unsigned>(num_passes * Rows(request.num_boxes).counters(images));
        survivors = take.array<unsigned>(images * words);
        list.num_chunks = take.array<unsigned>(1);
        list.ticket = take.array<unsigned>(1);
        list.progress = take.array<unsigned>(list.most_chunks);
        zeroed_bytes = take.bytes();
        list.chunks = take.array<Chunk>(list.most_chunks);
        keys = take.array<Key>(boxes);
        other_keys = take.array<Key>(boxes);
        list.kept_corners = take.array<float4>(boxes);
        list.kept_classes = take.array<long long>(boxes);
        bytes = take.bytes();
    }
};

// Leaves the order of scores in memory.keys, the groups in memory.other_keys.
void sort_and_group(const NmsRequest& request, const Memory& memory, cudaStream_t stream) {
    const Rows rows(request.num_boxes);
    const unsigned blocks = blocks_of(request.num_images * rows.tiles);
    const std::size_t counters = rows.counters(request.num_images);
    const BucketOf bucket_of{request.classes, request.num_boxes};
    unsigned* counts = memory.counts;
    Key *from = memory.keys, *to = memory.other_keys;
    launch(&rank_boxes, blocks, sort_threads, 0, stream, request, rows, from, counts);
    for (unsigned pass = 0; pass < num_passes - 1; ++pass, counts += counters, std::swap(from, to)) {
        const ByteOf byte{first_byte + pass * digit_bits}, next{byte.shift + digit_bits};
        if (pass + 2 < num_passes) {
            launch(&sort_by_byte<ByteOf>, blocks, sort_threads, 0, stream, rows, byte, from, counts, next, to,
                   counts + counters);
        } else {
            launch(&sort_by_byte<BucketOf>, blocks, sort_threads, 0, stream, rows, byte, from, counts, bucket_of, to,
                   counts + counters);
        }
    }
    launch(&group_by_class, blocks, sort_threads, 0, stream, rows, bucket_of, from, counts, to, memory.list);
}

// ---- soft ----

struct SoftSource {
    SoftNmsRequest request;
    std::int64_t* indices;
    float* scores;
    std::int32_t* found;

    __device__ unsigned count(unsigned) const { return static_cast<unsigned>(request.num_boxes); }

    __device__ Candidate candidate(unsigned, unsigned box) const {
        const float4 corners = corners_at(request.boxes + std::size_t{box} * 4);
        const long long class_id = request.classes == nullptr ? 0 : request.classes[box];
        return {corners, area_of(corners), class_id, is_finite(corners) && is_finite(request.scores[box])};
    }

    __device__ float score(unsigned, unsigned box) const { return request.scores[box]; }

    __device__ void pick(unsigned, unsigned number, unsigned box, float score, const Candidate&) const {
        indices[number] = box;
        scores[number] = score;
    }

    __device__ void finish(unsigned, unsigned picks) const {
        for (std::size_t i = std::size_t{picks} + threadIdx.x; i < request.num_boxes; i += soft_threads) {
            indices[i] = -1;
            scores[i] = 0.0F;
        }
        if (threadIdx.x == 0) *found = static_cast<std::int32_t>(picks);
    }
};

SoftBoxes soft_boxes(std::size_t num_boxes, Scratch& take) {
    return {take.array<float4>(num_boxes), take.array<long long>(num_boxes), take.array<float>(num_boxes)};
}

}  // namespace

std::size_t nms_scratch_bytes(const NmsRequest& request) { return Memory(request, nullptr).bytes; }

void nms(const NmsRequest& request, const DeviceContext& context, std::int64_t* indices, std::int32_t* counts) {
    if (request.num_images == 0) return;
    const OnDevice on_device(context.device);
    const auto stream = static_cast<cudaStream_t>(context.stream);
    const Memory memory(request, context.scratch);
    if (request.num_boxes > 0) {
        check(cudaMemsetAsync(context.scratch, 0, memory.zeroed_bytes, stream), "cudaMemsetAsync");
        sort_and_group(request, memory, stream);
        launch_suppression(GroupedBoxes{request, memory.other_keys, memory.survivors, memory.words}, memory.list,
                           request.max_iou, std::min(request.max_kept, request.num_boxes), context.device, stream);
    }
    constexpr std::size_t padding_a_thread = 8;
    const std::size_t work = std::max<std::size_t>(memory.words, request.max_kept / padding_a_thread);
    const auto image_blocks = static_cast<unsigned>(work / emit_threads + 1);
    launch(&emit_survivors, blocks_of(request.num_images * image_blocks), emit_threads, 0, stream, request, memory.keys,
           memory.survivors, memory.words, image_blocks, indices, counts);
}

std::size_t soft_nms_scratch_bytes(const SoftNmsRequest& request) {
    Scratch take(nullptr);
    soft_boxes(request.num_boxes, take);
    return take.bytes();
}

void soft_nms(const SoftNmsRequest& request, const DeviceContext& context, std::int64_t* indices, float* scores,
              std::int32_t* count) {
    const OnDevice on_device(context.device);
    Scratch take(context.scratch);
    const SoftBoxes boxes = soft_boxes(request.num_boxes, take);
    const auto num_boxes = static_cast<unsigned>(request.num_boxes);
    const SoftRule rule{request.decay == Decay::gaussian, request.sigma, request.max_iou, request.min_score};
    launch(&suppress_softly<SoftSource>, 1U, soft_threads, 0, static_cast<cudaStream_t>(context.stream),
           SoftSource{request, indices, scores, count}, boxes, num_boxes, rule, num_boxes);
}

}  // namespace bowerbird::cuda
