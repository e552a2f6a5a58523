// Re-ranking on a GPU: gather rows by id, score them in float32, the k best of each list.
// Legend: N rows, D dimensions, Q queries, K candidates a query, T candidates in all, k results a query.
//
// The floor is the gather. A candidate moves the bytes of its row, 8 of its id and 8 of its key: at d = 768 in float16
// 1,552 bytes for 768 multiply-adds, one operation a byte where an H200 has 14, so memory bandwidth is the only limit:
// 256 queries of 10,000 candidates are 3.97 GB, 0.92 ms at the 4.3 TB/s that a copy reaches there. By Little's law
// 4.3 TB/s at 0.8 us latency are 3.4 MB in flight, 26 KB a multiprocessor.
//
// Two launches, nothing between them on the host:
// 1. score_rows: each warp by itself, no shared memory, no barrier. Its lanes stand in groups of 32, 16 or 8 (as many
//    as a row has pieces of 16 bytes); a group scores 8 rows at a time, so that every lane has 8 independent loads of
//    16 bytes in flight: 4 KB a warp, 64 KB a multiprocessor at the 16 warps that the registers allow. A piece of the
//    query is loaded once for the 8 rows (from L1: rows go past it) and the sums are reduced together: 7 to 9 shuffles
//    for 8 rows instead of 40. The scores become keys of 8 bytes, score before id, in scratch memory.
// 2. select_rows: a block a query finds the k smallest keys (topk.cuh). For 256 lists of 10,000 that is 20 MB out of
//    the L2 cache, about 2 % of the time of the gather.
//
// Bits: a lane adds up its pieces in ascending order by fused multiply-add, then lanes are added up in pairs at
// distances 4, 2, 1, 8, 16. Equal rows score equally wherever they stand. The host adds in another order: scores differ
// by rounding. Rows whose address or length is no multiple of 16 bytes are read element by element: right, and slower.
// Reference: src/bowerbird/native/reference/rerank.py.
#include "bowerbird/rerank.hpp"

#include <cuda_fp16.h>

#include <algorithm>
#include <stdexcept>

#include "topk.cuh"

namespace bowerbird::cuda {
namespace {

constexpr unsigned score_threads = 128;
constexpr unsigned score_blocks = 4;  // a multiprocessor: 16 warps, and 128 registers a thread
constexpr unsigned score_warps = score_threads / warp_lanes;
constexpr unsigned rows_in_flight = 8;  // a group of lanes
constexpr std::size_t piece_bytes = 16;
constexpr std::size_t share_bytes = 64 * 1024;       // of rows a warp reads before it ends
constexpr std::size_t max_share_steps = 16;          // steps of rows_in_flight rows a group
constexpr std::size_t enough_warps = 132 * 16 * 4;   // fill an H200 four times; with fewer, shares are smaller
constexpr std::size_t most_candidates = 0xFFFFFFFF;  // of a list: they are counted in 32 bits
constexpr float not_a_number = __builtin_nanf("");

// ---- elements: how a piece of a row becomes floats, four at a time ----

__device__ unsigned word_of(uint4 bits, unsigned i) {
    return i == 0 ? bits.x : i == 1 ? bits.y : i == 2 ? bits.z : bits.w;
}

struct Float32 {
    using Element = float;
    static __device__ float widen(Element element) { return element; }
    static __device__ float value(uint4 bits, unsigned i) { return __uint_as_float(word_of(bits, i)); }
};

struct Float16 {
    using Element = unsigned short;
    static __device__ float widen(Element element) { return __half2float(__ushort_as_half(element)); }
    static __device__ float value(uint4 bits, unsigned i) {
        return widen(static_cast<Element>(word_of(bits, i / 2) >> 16 * (i % 2)));
    }
};

struct Bfloat16 {  // the high half of a float
    using Element = unsigned short;
    static __device__ float widen(Element element) { return __uint_as_float(unsigned{element} << 16); }
    static __device__ float value(uint4 bits, unsigned i) {
        return widen(static_cast<Element>(word_of(bits, i / 2) >> 16 * (i % 2)));
    }
};

struct Int8 {
    using Element = signed char;
    static __device__ float widen(Element element) { return static_cast<float>(element); }
    // A byte below the bits of 2^23 is that many ones more. Twice as fast as the conversion unit; exact.
    static __device__ float value(uint4 bits, unsigned i) {
        const unsigned from_minus_128 = word_of(bits, i / 4) ^ 0x80808080U;
        return __uint_as_float(__byte_perm(from_minus_128, 0x4B000000U, 0x7440U | i % 4)) - 8388736.0F;
    }
};

// A piece is what a lane loads at once: 16 bytes, or one element. The query comes in parts that few registers hold.
template <class Row>
struct WholePiece {
    using Loaded = uint4;
    static constexpr unsigned part = 4, parts = piece_bytes / sizeof(typename Row::Element) / part;

    static __device__ Loaded none() { return make_uint4(0, 0, 0, 0); }
    static __device__ Loaded load(const Loaded* piece) { return __ldcg(piece); }  // past L1: a row is read once
    static __device__ void load_query(const float* values, float (&out)[part]) {
        const float4 quad = __ldg(reinterpret_cast<const float4*>(values));
        out[0] = quad.x;
        out[1] = quad.y;
        out[2] = quad.z;
        out[3] = quad.w;
    }
    static __device__ float value(Loaded loaded, unsigned i) { return Row::value(loaded, i); }
};

template <class Row>
struct OneElement {
    using Loaded = typename Row::Element;
    static constexpr unsigned part = 1, parts = 1;

    static __device__ Loaded none() { return 0; }
    static __device__ Loaded load(const Loaded* piece) { return __ldg(piece); }
    static __device__ void load_query(const float* values, float (&out)[part]) { out[0] = __ldg(values); }
    static __device__ float value(Loaded loaded, unsigned) { return Row::widen(loaded); }
};

// ---- which candidates a warp scores ----

struct Lists {
    const std::int64_t* offsets;  // null: all lists have `length` candidates
    std::size_t num_lists, length, total;

    __device__ std::size_t begin(std::size_t list) const {
        if (offsets == nullptr) return list * length;
        const std::int64_t offset = offsets[list];
        if (offset < 0) return 0;
        return static_cast<std::size_t>(offset) < total ? static_cast<std::size_t>(offset) : total;
    }
};

// A stretch of one list.
struct Share {
    std::size_t list, begin, end;
};

// Lists are cut into shares of `share` candidates. Ragged list l gets the warps from begin(l) / share + l on: enough
// for it whatever its length, T / share + Q in all, and a search among the offsets finds them.
__device__ Share share_of(const Lists& lists, std::size_t share, std::size_t warp) {
    std::size_t list = 0, first_warp = 0;
    if (lists.offsets == nullptr) {
        const std::size_t list_warps = (lists.length + share - 1) / share;
        list = warp / list_warps;
        first_warp = list * list_warps;
    } else {
        std::size_t behind = lists.num_lists;
        while (behind - list > 1) {
            const std::size_t middle = list + (behind - list) / 2;
            (lists.begin(middle) / share + middle <= warp ? list : behind) = middle;
        }
        first_warp = lists.begin(list) / share + list;
    }
    if (list >= lists.num_lists || warp < first_warp) return {0, 0, 0};
    const std::size_t begin = lists.begin(list) + (warp - first_warp) * share, end = lists.begin(list + 1);
    return {list, begin, begin + share < end ? begin + share : end};
}

// ---- keys ----

// Order of unsigned integers in the order of floats.
__device__ unsigned ordered(float value) {
    const unsigned bits = __float_as_uint(value);
    return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

__device__ float from_ordered(unsigned order) {
    return __uint_as_float((order & 0x80000000U) != 0 ? order & 0x7FFFFFFFU : ~order);
}

template <Metric metric>
__device__ Key key_of(float score, unsigned id) {
    if (score != score) return no_key;
    const unsigned order = ordered(score + 0.0F);  // -0 is 0
    return Key{metric == Metric::l2 ? order : ~order} << 32 | id;
}

template <Metric metric>
__device__ float score_of(Key key) {
    const auto order = static_cast<unsigned>(key >> 32);
    return from_ordered(metric == Metric::l2 ? order : ~order);
}

// ---- scores ----

struct ScoreTask {
    const void* rows;
    std::size_t num_rows;
    const float* scales;
    const float* queries;
    std::size_t dimension;
    const std::int64_t* candidates;
    Lists lists;
    std::size_t share;     // candidates a warp
    unsigned num_pieces;   // a row
    unsigned group_lanes;  // 8, 16 or 32
};

// Sums over the lanes of a group: lane r, r + 8, ... have that of row r. Each step halves the rows a lane is
// responsible for: it hands the other half's sums over and adds what it is handed of its own.
__device__ float reduce_rows(float (&sums)[rows_in_flight], unsigned group_lanes) {
#pragma unroll
    for (unsigned half = rows_in_flight / 2; half > 0; half /= 2) {
        const bool upper = (threadIdx.x & half) != 0;
#pragma unroll
        for (unsigned i = 0; i < half; ++i) {
            const float given = upper ? sums[i] : sums[i + half];
            const float kept = upper ? sums[i + half] : sums[i];
            sums[i] = kept + __shfl_xor_sync(every_lane, given, static_cast<int>(half));
        }
    }
    float sum = sums[0];
    for (unsigned distance = rows_in_flight; distance < group_lanes; distance *= 2) {
        sum += __shfl_xor_sync(every_lane, sum, static_cast<int>(distance));
    }
    return sum;
}

__device__ double reduce_group(double sum, unsigned group_lanes) {
    for (unsigned distance = 1; distance < group_lanes; distance *= 2) {
        sum += __shfl_xor_sync(every_lane, sum, static_cast<int>(distance));
    }
    return sum;
}

// As on the host: NaN, which leaves the row out, where its squared length is beyond float32.
__device__ float cosine(double product, double row_square, double query_square) {
    if (!(row_square < __longlong_as_double(0x7FF0000000000000))) return not_a_number;
    const double lengths = sqrt(query_square) * sqrt(row_square);
    return lengths == 0.0 ? 0.0F : static_cast<float>(product / lengths);
}

// What the lane that is responsible for a row of the group brings.
template <class Value>
__device__ Value from_row(Value value, unsigned row, unsigned group_lanes) {
    return __shfl_sync(every_lane, value, static_cast<int>(row), static_cast<int>(group_lanes));
}

// One term of the sums of a row.
template <Metric metric>
__device__ void add(float value, float wanted, float scale, float& sum, float& square) {
    if (metric == Metric::l2) {
        const float apart = __fmaf_rn(scale, value, -wanted);
        sum = __fmaf_rn(apart, apart, sum);
    } else {
        sum = __fmaf_rn(value, wanted, sum);
        if (metric == Metric::cosine) square = __fmaf_rn(value, value, square);
    }
}

// Scores of 8 rows a group against the query: lane r of the group gets that of row r, whose id and scale it brings.
// Only rows with their bit in `valid` are read; the scores of the others mean nothing.
template <class Row, class Piece, Metric metric>
__device__ float score_step(const ScoreTask& task, const float* query, unsigned id, float scale, unsigned valid) {
    constexpr bool scaled = metric == Metric::l2 && sizeof(typename Row::Element) == 1;
    const unsigned lane = threadIdx.x % task.group_lanes;
    unsigned ids[rows_in_flight];
    float scales[rows_in_flight], sums[rows_in_flight], squares[rows_in_flight];
    double query_square = 0;
#pragma unroll
    for (unsigned r = 0; r < rows_in_flight; ++r) {
        ids[r] = from_row(id, r, task.group_lanes);
        if (scaled) scales[r] = from_row(scale, r, task.group_lanes);
        sums[r] = squares[r] = 0;
    }
    for (unsigned piece = lane; piece < task.num_pieces; piece += task.group_lanes) {
        typename Piece::Loaded loaded[rows_in_flight];
#pragma unroll
        for (unsigned r = 0; r < rows_in_flight; ++r) {
            const auto* pieces = static_cast<const typename Piece::Loaded*>(task.rows) + piece;
            const bool there = (valid >> r & 1) != 0;
            loaded[r] = there ? Piece::load(pieces + std::size_t{ids[r]} * task.num_pieces) : Piece::none();
        }
#pragma unroll
        for (unsigned part = 0; part < Piece::parts; ++part) {
            float wanted[Piece::part];
            Piece::load_query(query + (std::size_t{piece} * Piece::parts + part) * Piece::part, wanted);
#pragma unroll
            for (unsigned i = 0; i < Piece::part; ++i) {
#pragma unroll
                for (unsigned r = 0; r < rows_in_flight; ++r) {
                    const float value = Piece::value(loaded[r], part * Piece::part + i);
                    add<metric>(value, wanted[i], scaled ? scales[r] : 1.0F, sums[r], squares[r]);
                }
                if (metric == Metric::cosine) query_square += static_cast<double>(wanted[i]) * wanted[i];
            }
        }
    }
    __syncwarp();
    const float sum = reduce_rows(sums, task.group_lanes);
    if (metric == Metric::l2) return sum;
    if (metric == Metric::inner_product) return scale * sum;
    const double square = reduce_rows(squares, task.group_lanes), factor = scale;
    return cosine(factor * sum, factor * factor * square, reduce_group(query_square, task.group_lanes));
}

template <class Row, class Piece, Metric metric>
__global__ void __launch_bounds__(score_threads, score_blocks) score_rows(const ScoreTask task, Key* keys) {
    const std::size_t warp = std::size_t{blockIdx.x} * score_warps + threadIdx.x / warp_lanes;
    const Share share = share_of(task.lists, task.share, warp);
    const unsigned group = threadIdx.x % warp_lanes / task.group_lanes, lane = threadIdx.x % task.group_lanes;
    const unsigned step = warp_lanes / task.group_lanes * rows_in_flight;
    const float* query = task.queries + share.list * task.dimension;
    const bool responsible = lane < rows_in_flight;  // for one row of its group
    const std::size_t first = share.begin + group * rows_in_flight + lane;
    std::int64_t next = responsible && first < share.end ? task.candidates[first] : -1;
    for (std::size_t base = share.begin; base < share.end; base += step) {
        const std::size_t place = base + (first - share.begin);
        const std::int64_t candidate = next;
        next = responsible && place + step < share.end ? task.candidates[place + step] : -1;
        const bool is_row = candidate >= 0 && static_cast<std::size_t>(candidate) < task.num_rows;
        const unsigned id = is_row ? static_cast<unsigned>(candidate) : 0;
        const float scale = is_row && task.scales != nullptr ? task.scales[id] : 1.0F;
        const unsigned valid = __ballot_sync(every_lane, is_row) >> group * task.group_lanes & 0xFFU;
        const float score = score_step<Row, Piece, metric>(task, query, id, scale, valid);
        if (responsible && place < share.end) keys[place] = is_row ? key_of<metric>(score, id) : no_key;
    }
}

// ---- the k best ----

template <Metric metric>
__global__ void __launch_bounds__(topk_threads, 2)
    select_rows(const Lists lists, const Key* keys, std::size_t num_rows, std::size_t k, Key* spilled,
                std::size_t spilled_a_query, float* scores, std::int64_t* indices) {
    const std::size_t query = blockIdx.x, begin = lists.begin(query), end = lists.begin(query + 1);
    const std::size_t count = end > begin ? end - begin : 0;
    const auto wanted = static_cast<unsigned>(k < count ? k : count);
    __shared__ Key shared_keys[sorted_in_shared];
    const Key* best =
        smallest_keys(KeyArray(keys + begin, count), wanted, 64, shared_keys, spilled + query * spilled_a_query);
    constexpr float worst = metric == Metric::l2 ? __builtin_inff() : -__builtin_inff();
    for (std::size_t i = threadIdx.x; i < k; i += topk_threads) {
        const Key key = i < wanted ? best[i] : no_key;
        const Key id = key & 0xFFFFFFFFU;
        const bool there = key != no_key && id < num_rows;  // offsets that descend leave keys that nobody wrote
        scores[query * k + i] = there ? score_of<metric>(key) : worst;
        indices[query * k + i] = there ? static_cast<std::int64_t>(id) : -1;
    }
}

// ---- launches ----

Lists lists_of(const RerankRequest& request) {
    const bool ragged = request.offsets != nullptr;
    const std::size_t total = ragged ? request.num_candidates : request.num_candidates * request.num_queries;
    return {request.offsets, request.num_queries, request.num_candidates, total};
}

bool aligned(const void* memory) { return reinterpret_cast<std::uintptr_t>(memory) % piece_bytes == 0; }

struct Layout {
    std::size_t keys, spilled_a_query;  // counted in keys

    explicit Layout(const RerankRequest& request)
        : keys(lists_of(request).total), spilled_a_query(spilled_keys(std::min(request.k, request.num_candidates))) {
        if (request.num_candidates <= most_candidates) return;
        throw std::invalid_argument("candidates: expected lists of less than 2^32 on a CUDA device");
    }
};

template <class Row, class Piece, Metric metric>
void launch_scores(const RerankRequest& request, cudaStream_t stream, Key* keys) {
    ScoreTask task{};
    task.rows = request.rows;
    task.num_rows = request.num_rows;
    task.scales = request.scales;
    task.queries = request.queries;
    task.dimension = request.dimension;
    task.candidates = request.candidates;
    task.lists = lists_of(request);
    task.num_pieces = static_cast<unsigned>(request.dimension / (Piece::part * Piece::parts));
    task.group_lanes = 8;
    while (task.group_lanes < warp_lanes && 2 * task.group_lanes <= task.num_pieces) task.group_lanes *= 2;
    const std::size_t step = warp_lanes / task.group_lanes * rows_in_flight;
    const std::size_t steps_there = std::max<std::size_t>(1, task.lists.total / (step * enough_warps));
    const std::size_t step_bytes = step * task.num_pieces * sizeof(typename Piece::Loaded);
    const std::size_t steps_wanted = std::max<std::size_t>(1, share_bytes / step_bytes);
    task.share = step * std::min({steps_there, steps_wanted, max_share_steps});
    const std::size_t warps = request.offsets == nullptr
                                  ? (task.lists.length + task.share - 1) / task.share * request.num_queries
                                  : task.lists.total / task.share + request.num_queries;
    const unsigned blocks = blocks_of((warps + score_warps - 1) / score_warps);
    launch(&score_rows<Row, Piece, metric>, blocks, score_threads, 0, stream, task, keys);
}

template <class Row, Metric metric>
void launch_scores(const RerankRequest& request, cudaStream_t stream, Key* keys) {
    const bool whole = request.dimension * sizeof(typename Row::Element) % piece_bytes == 0 && aligned(request.rows) &&
                       aligned(request.queries);
    if (whole) return launch_scores<Row, WholePiece<Row>, metric>(request, stream, keys);
    launch_scores<Row, OneElement<Row>, metric>(request, stream, keys);
}

template <Metric metric>
void launch_all(const RerankRequest& request, const DeviceContext& context, float* scores, std::int64_t* indices) {
    const auto stream = static_cast<cudaStream_t>(context.stream);
    const Layout layout(request);
    Key* keys = static_cast<Key*>(context.scratch);
    if (layout.keys > 0) {
        switch (request.row_type) {
            case RowType::float32: launch_scores<Float32, metric>(request, stream, keys); break;
            case RowType::float16: launch_scores<Float16, metric>(request, stream, keys); break;
            case RowType::bfloat16: launch_scores<Bfloat16, metric>(request, stream, keys); break;
            case RowType::int8: launch_scores<Int8, metric>(request, stream, keys); break;
        }
    }
    launch(&select_rows<metric>, blocks_of(request.num_queries), topk_threads, 0, stream, lists_of(request), keys,
           request.num_rows, request.k, keys + layout.keys, layout.spilled_a_query, scores, indices);
}

}  // namespace

std::size_t rerank_scratch_bytes(const RerankRequest& request) {
    const Layout layout(request);
    return (layout.keys + layout.spilled_a_query * request.num_queries) * sizeof(Key);
}

void rerank(const RerankRequest& request, const DeviceContext& context, float* scores, std::int64_t* indices) {
    if (request.num_queries == 0) return;
    const OnDevice on_device(context.device);
    switch (request.metric) {
        case Metric::inner_product: return launch_all<Metric::inner_product>(request, context, scores, indices);
        case Metric::l2: return launch_all<Metric::l2>(request, context, scores, indices);
        case Metric::cosine: return launch_all<Metric::cosine>(request, context, scores, indices);
    }
}

}  // namespace bowerbird::cuda
