// Suppression of ranked boxes on a GPU: greedy, of many segments at once by chunks, and soft.
// Legend: B images, N places of an image; a segment: places begin ... end of an image, best box first.
//
// Greedy suppression is serial by nature: whether a box survives depends on the survivors before it. Two things make it
// short. (1) A box that is suppressed suppresses nothing, so only survivors are compared with the rest: a few per cent
// of all pairs. (2) A segment is cut into chunks of 1,024, each with its own block, and all chunks work at once: chunk
// c compares its boxes with the survivors of chunks 0, 1, ..., c - 1 as these become known, then settles its own
// and makes them known. Only the last comparison and the settling lie on the serial path.
//
// A chunk settles its boxes 64 at a time, the best 64 that are still alive, so that the number of steps goes with the
// survivors and not with the boxes. A step: 256 threads compare the 64 with each other, 16 pairs each, some 500 cycles;
// every warp turns the 64 x 64 bits into survivors by itself, in as many rounds as the longest chain of "suppresses"
// (four ballots a round, some 80 cycles): a box whose suppressors are all gone is kept, one that a kept box suppresses
// is gone; then all threads compare their boxes that are alive with the kept ones. That is 1 to 2 us a step on an H200.
//
// Counted on 20,000 boxes with 50 proposals an object: as one segment 32 steps in all (9 in the first chunk, 1 in
// most), 3 rounds at most, 6.8 million pairs where all are 200 million, 1,276 survivors; with 20 handings over of some
// 1.5 us about 100 us, for one image as for 26 (528 blocks run at once on an H200, and an image has 20). By class, 250
// boxes a segment: 2 steps of 6 rounds at most, nobody waits, 0.5 million pairs.
//
// Waiting between blocks is safe because blocks take chunks by ticket and a segment's chunks have ascending tickets:
// who holds an earlier ticket runs already (as in Merrill and Garland, "Single-pass parallel prefix scan with decoupled
// look-back", NVIDIA, 2016). The number of blocks comes from shapes and the device, never from values.
//
// Bits: every operation is one of IEEE float32 in the order of src/suppression.cpp, never fused: compile with
// -fmad=false. Results are those of the host.
#pragma once

#include "topk.cuh"

namespace bowerbird::cuda {

// ---- boxes ----

struct Candidate {
    float4 corners;  // x_min, y_min, x_max, y_max
    float area;
    long long class_id;
    bool exists;
};

__device__ inline bool is_finite(float value) { return (__float_as_uint(value) & 0x7F800000U) != 0x7F800000U; }

__device__ inline bool is_finite(float4 values) {
    return is_finite(values.x) && is_finite(values.y) && is_finite(values.z) && is_finite(values.w);
}

__device__ inline float area_of(float4 corners) {
    return fmaxf(corners.z - corners.x, 0.0F) * fmaxf(corners.w - corners.y, 0.0F);
}

// The corners lie at any multiple of 4 bytes.
__device__ inline float4 corners_at(const float* corners) {
    return make_float4(corners[0], corners[1], corners[2], corners[3]);
}

__device__ inline float intersection(float4 a, float4 b) {
    const float width = fmaxf(fminf(a.z, b.z) - fmaxf(a.x, b.x), 0.0F);
    const float height = fmaxf(fminf(a.w, b.w) - fmaxf(a.y, b.y), 0.0F);
    return width * height;
}

__device__ inline bool suppresses(const Candidate& a, const Candidate& b, float max_iou) {
    const float inter = intersection(a.corners, b.corners);
    return inter > max_iou * (a.area + b.area - inter) && a.class_id == b.class_id;
}

// An integer that orders like the score, best first; both zeros are one. It is never `left_out`.
constexpr unsigned left_out = 0xFFFFFFFFU;
__device__ inline unsigned rank_of(float score) {
    const unsigned bits = __float_as_uint(score + 0.0F);
    return (bits & 0x80000000U) != 0 ? bits : ~bits & 0x7FFFFFFFU;
}
__device__ inline float score_of_rank(unsigned rank) {
    return __uint_as_float((rank & 0x80000000U) != 0 ? rank : ~rank & 0x7FFFFFFFU);
}

// ---- greedy ----

constexpr unsigned chunk_threads = 256;
constexpr unsigned chunk_warps = chunk_threads / warp_lanes;
constexpr unsigned thread_boxes = 4;
constexpr unsigned chunk_boxes = chunk_threads * thread_boxes;
constexpr unsigned chunk_words = chunk_boxes / warp_lanes;  // one a lane
constexpr unsigned group_boxes = 64;                        // settled in one step
constexpr unsigned group_parts = chunk_threads / group_boxes;
constexpr unsigned part_boxes = group_boxes / group_parts;
constexpr int resident_blocks = 4;  // a multiprocessor, by registers
static_assert(chunk_words == warp_lanes && part_boxes == 16, "a word a lane; 16 bits a part");

struct alignas(16) Chunk {
    unsigned image, segment_begin, begin, segment_end;  // places of the image

    __device__ unsigned number() const { return (begin - segment_begin) / chunk_boxes; }
    __device__ bool is_last() const { return segment_end - begin <= chunk_boxes; }
};

// The work of a launch, and how far it has come. A chunk's progress is 0, or 1 + the survivors of its segment up to and
// with it; the corners and classes of these lie at the places where the segment begins.
struct ChunkList {
    Chunk* chunks;            // of all images, those of a segment one behind the other
    unsigned* num_chunks;     // 0 at first
    unsigned* progress;       // of each chunk, 0 at first
    unsigned* ticket;         // 0 at first
    float4* kept_corners;     // (B, N)
    long long* kept_classes;  // (B, N)
    std::size_t num_places;   // N
    std::size_t most_chunks;
};

// Cut a segment into chunks, by one thread; the first goes to `chunks`.
__device__ inline unsigned chunks_of(unsigned num_boxes) { return (num_boxes + chunk_boxes - 1) / chunk_boxes; }
__device__ inline void cut(unsigned image, unsigned begin, unsigned end, Chunk* chunks) {
    for (unsigned first = begin; first < end; first += chunk_boxes) *chunks++ = {image, begin, first, end};
}

struct ChunkShared {
    float4 corners[chunk_boxes];
    float areas[chunk_boxes];
    long long classes[chunk_boxes];
    float4 kept_corners[chunk_threads];
    float kept_areas[chunk_threads];
    long long kept_classes[chunk_threads];
    unsigned alive[chunk_words];
    unsigned chosen[group_boxes];
    unsigned short suppressors[group_boxes][group_parts];
    unsigned announced;

    __device__ Candidate box(unsigned i) const { return {corners[i], areas[i], classes[i], true}; }
    __device__ Candidate kept(unsigned i) const { return {kept_corners[i], kept_areas[i], kept_classes[i], true}; }
};

// A thread's boxes: number i is box i * chunk_threads + threadIdx.x of the chunk.
struct OwnBoxes {
    Candidate boxes[thread_boxes];
    unsigned alive;  // a bit a box

    __device__ void leave(const Candidate& kept, float max_iou) {
#pragma unroll
        for (unsigned i = 0; i < thread_boxes; ++i) {
            if ((alive >> i & 1) != 0 && suppresses(kept, boxes[i], max_iou)) alive &= ~(1U << i);
        }
    }
};

template <class Source>
__device__ OwnBoxes load_chunk(const Source& source, const Chunk& chunk, ChunkShared& shared) {
    OwnBoxes own;
    own.alive = 0;
#pragma unroll
    for (unsigned i = 0; i < thread_boxes; ++i) {
        const unsigned box = i * chunk_threads + threadIdx.x;
        Candidate candidate{make_float4(0.0F, 0.0F, 0.0F, 0.0F), 0.0F, 0, false};
        if (chunk.begin + box < chunk.segment_end) candidate = source.candidate(chunk.image, chunk.begin + box);
        own.boxes[i] = candidate;
        if (candidate.exists) own.alive |= 1U << i;
        shared.corners[box] = candidate.corners;
        shared.areas[box] = candidate.area;
        shared.classes[box] = candidate.class_id;
    }
    return own;
}

// What a chunk before this one has made known. One thread waits; the barrier and its fence order the others behind it.
__device__ inline unsigned survivors_up_to(const unsigned* progress, ChunkShared& shared) {
    if (threadIdx.x == 0) {
        const volatile unsigned* announced = progress;
        unsigned value = *announced;
        while (value == 0) {
            __nanosleep(20);
            value = *announced;
        }
        __threadfence();
        shared.announced = value - 1;
    }
    __syncthreads();
    const unsigned survivors = shared.announced;
    __syncthreads();  // it may be written again
    return survivors;
}

// Compare the thread's boxes with the survivors `from` ... `to` of the segment.
__device__ inline void leave_kept(const ChunkList& list, const Chunk& chunk, unsigned from, unsigned to, float max_iou,
                                  ChunkShared& shared, OwnBoxes& own) {
    const std::size_t segment = chunk.image * list.num_places + chunk.segment_begin;
    for (unsigned first = from; first < to; first += chunk_threads) {
        const unsigned mine = first + threadIdx.x, count = min(chunk_threads, to - first);
        if (mine < to) {
            const float4 corners = __ldcg(list.kept_corners + segment + mine);  // another block wrote it
            shared.kept_corners[threadIdx.x] = corners;
            shared.kept_areas[threadIdx.x] = area_of(corners);
            shared.kept_classes[threadIdx.x] = __ldcg(list.kept_classes + segment + mine);
        }
        __syncthreads();
        for (unsigned i = 0; i < count && __any_sync(every_lane, own.alive != 0); ++i) {
            own.leave(shared.kept(i), max_iou);
        }
        __syncthreads();
    }
}

// The place in the group of each of the thread's boxes that is among the best 64 alive, group_boxes for the others.
// Returns how many the group has.
__device__ inline unsigned choose_group(const OwnBoxes& own, ChunkShared& shared, unsigned (&places)[thread_boxes]) {
    const unsigned lane = threadIdx.x % warp_lanes, warp = threadIdx.x / warp_lanes;
#pragma unroll
    for (unsigned i = 0; i < thread_boxes; ++i) {
        const unsigned word = __ballot_sync(every_lane, (own.alive >> i & 1) != 0);
        if (lane == 0) shared.alive[i * chunk_warps + warp] = word;
    }
    __syncthreads();
    const unsigned word = shared.alive[lane];
    const auto count = static_cast<unsigned>(__popc(word));
    unsigned up_to = count;
    for (unsigned offset = 1; offset < warp_lanes; offset *= 2) {
        const unsigned other = __shfl_up_sync(every_lane, up_to, offset);
        if (lane >= offset) up_to += other;
    }
#pragma unroll
    for (unsigned i = 0; i < thread_boxes; ++i) {
        const int source = static_cast<int>(i * chunk_warps + warp);
        const unsigned before = __shfl_sync(every_lane, up_to - count, source);
        const unsigned mine = __shfl_sync(every_lane, word, source);
        const unsigned place = before + static_cast<unsigned>(__popc(mine & ((1U << lane) - 1)));
        const bool chosen = (own.alive >> i & 1) != 0 && place < group_boxes;
        places[i] = chosen ? place : group_boxes;
        if (chosen) shared.chosen[place] = i * chunk_threads + threadIdx.x;
    }
    const unsigned total = __shfl_sync(every_lane, up_to, warp_lanes - 1);
    __syncthreads();
    return min(total, group_boxes);
}

// Compare the boxes of the group with each other: who is suppressed by whom before it. Each thread takes one of them
// and a part of those before.
__device__ inline void compare_group(unsigned size, float max_iou, ChunkShared& shared) {
    const unsigned box = threadIdx.x % group_boxes, part = threadIdx.x / group_boxes;
    unsigned bits = 0;
    if (box < size) {
        const Candidate mine = shared.box(shared.chosen[box]);
#pragma unroll
        for (unsigned i = 0; i < part_boxes; ++i) {
            const unsigned other = part * part_boxes + i;
            if (other < box && suppresses(shared.box(shared.chosen[other]), mine, max_iou)) bits |= 1U << i;
        }
    }
    shared.suppressors[box][part] = static_cast<unsigned short>(bits);
    __syncthreads();
}

__device__ inline unsigned long long suppressors_of(const ChunkShared& shared, unsigned box) {
    unsigned long long bits = 0;
#pragma unroll
    for (unsigned part = 0; part < group_parts; ++part) {
        bits |= static_cast<unsigned long long>(shared.suppressors[box][part]) << part * part_boxes;
    }
    return bits;
}

__device__ inline unsigned long long ballot_of_two(bool low, bool high) {
    const unsigned low_lanes = __ballot_sync(every_lane, low);
    return static_cast<unsigned long long>(__ballot_sync(every_lane, high)) << warp_lanes | low_lanes;
}

// The survivors of the group, a bit each. Every warp finds them; a round settles at least the first that is open.
__device__ inline unsigned long long settle_group(const ChunkShared& shared, unsigned size) {
    const unsigned low = threadIdx.x % warp_lanes, high = low + warp_lanes;
    const unsigned long long of_low = suppressors_of(shared, low), of_high = suppressors_of(shared, high);
    unsigned long long kept = 0, gone = size < group_boxes ? ~0ULL << size : 0;
    while ((kept | gone) != ~0ULL) {
        const unsigned long long open = ~(kept | gone);
        const bool low_open = (open >> low & 1) != 0, high_open = (open >> high & 1) != 0;
        const unsigned long long now_gone =
            ballot_of_two(low_open && (of_low & kept) != 0, high_open && (of_high & kept) != 0);
        kept |= ballot_of_two(low_open && (of_low & ~gone) == 0, high_open && (of_high & ~gone) == 0);
        gone |= now_gone;
    }
    return kept;
}

__device__ inline unsigned long long first_bits(unsigned long long bits, unsigned count) {
    if (static_cast<unsigned>(__popcll(bits)) <= count) return bits;
    unsigned long long rest = bits;
    for (unsigned i = 0; i < count; ++i) rest &= rest - 1;
    return bits & ~rest;
}

// Settle the chunk's own boxes. Returns the survivors of the segment up to and with it.
template <class Source>
__device__ unsigned settle_chunk(const Source& source, const ChunkList& list, const Chunk& chunk, unsigned survivors,
                                 unsigned limit, float max_iou, ChunkShared& shared, OwnBoxes& own) {
    const std::size_t segment = chunk.image * list.num_places + chunk.segment_begin;
    while (survivors < limit) {
        unsigned places[thread_boxes];
        const unsigned size = choose_group(own, shared, places);
        if (size == 0) break;
        compare_group(size, max_iou, shared);
        const unsigned long long kept = first_bits(settle_group(shared, size), limit - survivors);
#pragma unroll
        for (unsigned i = 0; i < thread_boxes; ++i) {
            if (places[i] == group_boxes) continue;
            own.alive &= ~(1U << i);
            if ((kept >> places[i] & 1) == 0) continue;
            const unsigned number = survivors + static_cast<unsigned>(__popcll(kept & ((1ULL << places[i]) - 1)));
            list.kept_corners[segment + number] = own.boxes[i].corners;
            list.kept_classes[segment + number] = own.boxes[i].class_id;
            source.keep(chunk.image, chunk.begin + i * chunk_threads + threadIdx.x, number, own.boxes[i]);
        }
        for (unsigned long long left = kept; left != 0 && __any_sync(every_lane, own.alive != 0); left &= left - 1) {
            own.leave(shared.box(shared.chosen[__ffsll(static_cast<long long>(left)) - 1]), max_iou);
        }
        survivors += static_cast<unsigned>(__popcll(kept));
    }
    return survivors;
}

// All chunks of all images. No segment keeps more than `limit` boxes. The source has
//   Candidate candidate(image, place)            the box at this place
//   void keep(image, place, number, candidate)   it survives as the number-th of its segment
//   void finish(image, survivors)                the last chunk of a segment is settled; called by all threads
template <class Source>
__global__ void __launch_bounds__(chunk_threads, resident_blocks)
    suppress_chunks(const Source source, const ChunkList list, float max_iou, unsigned limit) {
    __shared__ ChunkShared shared;
    __shared__ unsigned shared_ticket;
    for (;;) {
        __syncthreads();  // of the last chunk
        if (threadIdx.x == 0) shared_ticket = atomicAdd(list.ticket, 1U);
        __syncthreads();
        const unsigned here = shared_ticket;
        if (here >= *list.num_chunks) return;
        const Chunk chunk = list.chunks[here];
        OwnBoxes own = load_chunk(source, chunk, shared);
        unsigned survivors = 0;
        for (unsigned before = chunk.number(); before > 0; --before) {
            const unsigned up_to = survivors_up_to(list.progress + here - before, shared);
            leave_kept(list, chunk, survivors, up_to, max_iou, shared, own);
            survivors = up_to;
        }
        survivors = settle_chunk(source, list, chunk, survivors, limit, max_iou, shared, own);
        if (chunk.is_last()) {
            source.finish(chunk.image, survivors);
            continue;
        }
        __syncthreads();  // all survivors are written
        if (threadIdx.x == 0) {
            __threadfence();
            *static_cast<volatile unsigned*>(list.progress + here) = survivors + 1;
        }
    }
}

// As many blocks as can run at once, if there is work for them.
template <class Source>
void launch_suppression(const Source& source, const ChunkList& list, float max_iou, std::size_t limit, int device,
                        cudaStream_t stream) {
    int multiprocessors = 0;
    check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
    const auto blocks = static_cast<std::size_t>(multiprocessors * resident_blocks);
    launch(&suppress_chunks<Source>, static_cast<unsigned>(blocks < list.most_chunks ? blocks : list.most_chunks),
           chunk_threads, 0, stream, source, list, max_iou, static_cast<unsigned>(limit));
}

}  // namespace bowerbird::cuda
