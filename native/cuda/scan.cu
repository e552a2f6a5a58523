// Hamming scan on a GPU: distances of all codes to all queries, and of each query the k least.
// Legend: N codes, Q queries, W bytes a code, k results a query; a word is 32 bits.
//
// The floors. Few queries: the codes are read once, N * W bytes; 1M x 256 bit are 32 MB, 7.4 us at the 4.3 TB/s that a
// copy reaches on an H200. Many queries: counting bits. A multiprocessor counts 16 words a cycle, so a pair of 256-bit
// codes costs it half a cycle: 3.7 T words/s in all, 2.2 us a query. Counting is cheaper after adding: three words go
// into a sum and a carry word by two logic operations (a full adder on 32 bits at once), of which 64 run a cycle, and
// 8 words are left to 4 counts. That makes 19 logic and integer operations and 4 counts of 8 words where there were 8
// counts: 0.30 cycles, bound by logic, 1.7 times the rate of counting alone. (Harley and Seal's counter; Mula, Kurz,
// Lemire, "Faster population counts using AVX2 instructions", 2018.)
//
// Three launches, nothing between them on the host:
// 1. sample_codes: distances of every step-th stretch of codes, as a histogram a query. The k-th least of the sample
//    bounds the k-th least of all. A sample of m codes costs m / N of the scan and lets about k * N / m codes through;
//    m = 8 sqrt(k N) balances the two (8 % of 1M codes for k = 100, which lets 1,250 through).
// 2. scan_codes: all distances; keys (distance before position) of codes within the bound go to the query's list, by
//    an atomic counter.
// 3. select_codes: a block a query picks the k smallest keys (topk.cuh). The list holds 8 times what is expected. If
//    more codes were within the bound (a great many copies of one code), the block computes the distances again, once
//    for every 8 bits of the key: slow, and right.
// So the result does not depend on the order in which codes arrive: the list is any superset of the k best, and keys
// are unique. Where N is small beside k no sample pays: then every code has its place in the list.
//
// How a block computes distances stands in scan_distances.cuh. Blocks of all query tiles walk the codes side by side,
// so that a code comes from memory once and from the L2 cache after that.
// Reference: src/bowerbird/native/reference/scan.py.
#include "bowerbird/scan.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "scan_distances.cuh"
#include "topk.cuh"

namespace bowerbird::cuda {
namespace {

constexpr unsigned scan_blocks = 4;   // a multiprocessor: 128 registers a thread
constexpr unsigned tile_queries = 8;  // in registers; a single query has kernels of its own
constexpr unsigned grid_blocks = 8;   // a multiprocessor: two rounds, so that the last one is short
constexpr std::size_t list_rounds = 4;   // of a block over an inverted list of average length
constexpr std::size_t max_list_parts = 64;

constexpr unsigned distance_bits = 13;                // up to 4096
constexpr unsigned histogram_bins = 512;              // wider ones for longer codes: the bound is rounded up
constexpr unsigned no_bound = 0x7FFF;                 // lets every distance in
constexpr std::size_t min_capacity = 4096;            // keys in a query's list
constexpr std::size_t capacity_margin = 8;            // times what the bound is expected to let through
constexpr std::size_t max_capacity = 0xFFFFFFFF;      // counted in 32 bits
constexpr std::size_t batch_bytes = std::size_t{256} << 20;  // of scratch memory; more queries come batch by batch

struct ScanTask : ScanInput {
    std::size_t k;
    unsigned index_bits;   // of a key, below the distance
    std::size_t step;      // the sample is every step-th stretch of codes; 0: there is none
    unsigned bin_shift;    // distance to bin
    bool direct;           // code i goes to place i of the list
    std::size_t capacity;  // of a list
    unsigned* histograms;  // (num_queries, histogram_bins)
    Key* counts;           // (num_queries,)
    Key* keys;             // (num_queries, capacity)
};

__device__ Key key_of(const ScanTask& task, unsigned distance, std::size_t index) {
    return Key{distance} << task.index_bits | index;
}

// ---- the kernels ----

template <class M>
__global__ void __launch_bounds__(scan_threads, scan_blocks) sample_codes(const ScanTask task) {
    __shared__ unsigned bins[M::tile * histogram_bins];
    for (unsigned i = threadIdx.x; i < M::tile * histogram_bins; i += scan_threads) bins[i] = 0;
    const Work work = work_of<M>(task);
    __syncthreads();
    const unsigned first = 2 * first_pack<M>();
    const bool holds = threadIdx.x % M::code_lanes < M::packs;
    visit_codes<M>(task, work, task.step, [&](std::size_t, bool wanted, const unsigned (&packed)[M::packs]) {
        if (!wanted || !holds) return;
#pragma unroll
        for (unsigned i = 0; i < M::held * 2; ++i) {
            if (first + i >= work.num_queries) break;
            const unsigned bin = (packed[i / 2] >> 16 * (i % 2) & 0xFFFFU) >> task.bin_shift;
            atomicAdd(&bins[(first + i) * histogram_bins + (bin < histogram_bins ? bin : histogram_bins - 1)], 1U);
        }
    });
    __syncthreads();
    for (unsigned i = threadIdx.x; i < work.num_queries * histogram_bins; i += scan_threads) {
        if (bins[i] != 0) atomicAdd(&task.histograms[work.first_query * histogram_bins + i], bins[i]);
    }
}

// The largest distance that can be among the k least of a query, by its sample. Computed by one warp.
__device__ unsigned bound_of(const ScanTask& task, std::size_t query) {
    constexpr unsigned lane_bins = histogram_bins / warp_lanes;
    const unsigned lane = threadIdx.x % warp_lanes;
    const unsigned* bins = task.histograms + query * histogram_bins + lane * lane_bins;
    std::size_t sum = 0;
    for (unsigned i = 0; i < lane_bins; ++i) sum += bins[i];
    std::size_t up_to = sum;
    for (unsigned offset = 1; offset < warp_lanes; offset *= 2) {
        const std::size_t before = __shfl_up_sync(every_lane, up_to, offset);
        if (lane >= offset) up_to += before;
    }
    const unsigned enough = __ballot_sync(every_lane, up_to >= task.k);
    if (enough == 0) return no_bound;
    const int crossing = __ffs(static_cast<int>(enough)) - 1;
    unsigned bin = 0;
    for (std::size_t below = up_to - sum; bin + 1 < lane_bins && below + bins[bin] < task.k; ++bin) below += bins[bin];
    bin = __shfl_sync(every_lane, lane * lane_bins + bin, crossing);
    return bin + 1 == histogram_bins ? no_bound : ((bin + 1) << task.bin_shift) - 1;
}

template <class M>
__global__ void __launch_bounds__(scan_threads, scan_blocks) scan_codes(const ScanTask task) {
    // Halves of words: 0x8000 + bound - distance has its highest bit set where the distance is within the bound.
    constexpr unsigned within = 0x8000, never = 0x1000;
    __shared__ unsigned limits[2 * M::packs];
    const Work work = work_of<M>(task);
    for (unsigned q = threadIdx.x / warp_lanes; q < 2 * M::packs; q += scan_warps) {
        const bool there = q < work.num_queries;
        const unsigned bound = there && task.step != 0 ? bound_of(task, work.first_query + q) : no_bound;
        if (threadIdx.x % warp_lanes == 0) limits[q] = there ? within + bound : never;
    }
    __syncthreads();
    const unsigned first = first_pack<M>();
    const bool holds = threadIdx.x % M::code_lanes < M::packs;
    unsigned limit[M::held];
#pragma unroll
    for (unsigned i = 0; i < M::held; ++i) limit[i] = limits[2 * (first + i)] | limits[2 * (first + i) + 1] << 16;

    visit_codes<M>(task, work, 1, [&](std::size_t index, bool wanted, const unsigned (&packed)[M::packs]) {
        unsigned hits[M::held], any = 0;
#pragma unroll
        for (unsigned i = 0; i < M::held; ++i) any |= hits[i] = (limit[i] - packed[i]) & 0x80008000U;
        if (any == 0 || !holds || !(wanted || (task.direct && index < work.range.end))) return;
#pragma unroll
        for (unsigned i = 0; i < 2 * M::held; ++i) {
            if ((hits[i / 2] >> 16 * (i % 2) & within) == 0) continue;
            const std::size_t query = work.first_query + 2 * first + i;
            const Key key = key_of(task, packed[i / 2] >> 16 * (i % 2) & 0xFFFFU, index);
            const std::size_t place = task.direct ? index : atomicAdd(&task.counts[query], Key{1});
            if (place < task.capacity) task.keys[query * task.capacity + place] = wanted ? key : no_key;
        }
    });
}

// The keys of all codes that a query looks at, computed when they are asked for.
class RescannedKeys {
public:
    using Count = Key;

    __device__ RescannedKeys(const ScanTask& task, std::size_t query) : task_(task), query_(query) {}

    template <class Use>
    __device__ void visit(const Use& use) const {
        if (task_.list_offsets == nullptr) return visit_range({0, task_.num_codes}, use);
        for (std::size_t p = 0; p < task_.num_probes; ++p) visit_range(probe_range(task_, query_, p), use);
    }

private:
    template <class Use>
    __device__ void visit_range(Range range, const Use& use) const {
        for (std::size_t base = range.begin; base < range.end; base += blockDim.x) {
            const std::size_t index = base + threadIdx.x;
            use(index < range.end && let_in(task_, index) ? key(index) : no_key);
        }
    }

    __device__ Key key(std::size_t index) const {
        const std::uint8_t* code = task_.codes + index * task_.code_bytes;
        const std::uint8_t* query = task_.queries + query_ * task_.code_bytes;
        unsigned distance = 0;
        for (unsigned at = 0; at < task_.code_bytes; at += 4) {
            distance += count_bits(load_word(code + at) ^ load_word(query + at));
        }
        return key_of(task_, distance, index);
    }

    const ScanTask& task_;
    const std::size_t query_;
};

__global__ void __launch_bounds__(topk_threads, 2)
    select_codes(const ScanTask task, const std::int64_t* ids, Key* spilled, std::size_t spilled_a_query,
                 std::int32_t* distances, std::int64_t* indices) {
    __shared__ Key shared_keys[sorted_in_shared];
    const std::size_t query = blockIdx.x;
    const auto wanted = static_cast<unsigned>(task.k < task.num_codes ? task.k : task.num_codes);
    const std::size_t count = task.direct ? task.num_codes : task.counts[query];
    const unsigned key_bits = distance_bits + task.index_bits;
    Key* spilled_keys = spilled + query * spilled_a_query;
    const KeyArray listed(task.keys + query * task.capacity, count);
    const Key* best = count <= task.capacity
                          ? smallest_keys(listed, wanted, key_bits, shared_keys, spilled_keys)
                          : smallest_keys(RescannedKeys(task, query), wanted, key_bits, shared_keys, spilled_keys);
    for (std::size_t i = threadIdx.x; i < task.k; i += topk_threads) {
        const Key key = i < wanted ? best[i] : no_key;
        const std::size_t index = key & ((Key{1} << task.index_bits) - 1);
        distances[query * task.k + i] = key == no_key ? -1 : static_cast<std::int32_t>(key >> task.index_bits);
        indices[query * task.k + i] =
            key == no_key ? -1 : ids == nullptr ? static_cast<std::int64_t>(index) : ids[index];
    }
}

// ---- launches ----

// What follows from the shapes: how much is sampled, how long the lists are, how many queries fit the scratch memory.
struct Plan {
    std::size_t step, capacity, spilled_a_query, batch;
    bool direct;

    explicit Plan(const ScanRequest& request) {
        std::size_t expected_codes = request.num_codes;  // that a query looks at
        if (request.list_offsets != nullptr) {
            const std::size_t lists = std::max<std::size_t>(request.num_lists, 1);
            expected_codes = request.num_codes / lists * std::min(request.num_probes, lists);
        }
        const double k = static_cast<double>(request.k), codes = static_cast<double>(expected_codes);
        step = std::max<std::size_t>(2, static_cast<std::size_t>(codes / (8 * std::sqrt(k * codes) + 1)));
        capacity = std::max(min_capacity, capacity_margin * request.k * step);
        direct = request.list_offsets == nullptr && capacity >= request.num_codes / 2;
        if (direct) capacity = request.num_codes;
        if (direct || expected_codes <= capacity / 4) step = 0;
        capacity = std::min({capacity, request.num_codes, max_capacity});
        spilled_a_query = spilled_keys(std::min(request.k, request.num_codes));
        const std::size_t fitting = batch_bytes / bytes_a_query() / tile_queries * tile_queries;
        const std::size_t in_a_grid = max_grid_blocks / std::max<std::size_t>(request.num_probes, 1);
        batch = std::min({request.num_queries, std::max<std::size_t>(fitting, tile_queries),
                          std::max<std::size_t>(in_a_grid, 1)});
    }

    std::size_t counters() const { return sizeof(Key) + histogram_bins * sizeof(unsigned); }
    std::size_t bytes_a_query() const { return counters() + (capacity + spilled_a_query) * sizeof(Key); }
};

unsigned multiprocessors(int device) {
    int count = 0;
    check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
    return static_cast<unsigned>(count);
}

// Blocks of a scan whose stretches are `step` apart.
template <class M>
dim3 grid_of(const ScanTask& task, std::size_t step, int device) {
    constexpr std::size_t round = std::size_t{M::stretch} * scan_warps;  // codes of a block at once
    if (task.list_offsets != nullptr) {
        const std::size_t average = task.num_codes / std::max<std::size_t>(task.num_lists, 1);
        const std::size_t parts = average / (round * step * list_rounds) + 1;
        return {blocks_of(task.num_queries * task.num_probes),
                static_cast<unsigned>(std::min(parts, max_list_parts))};
    }
    const std::size_t tiles = (task.num_queries + M::tile - 1) / M::tile;
    const std::size_t parts = (task.num_codes + round * step - 1) / (round * step);
    const std::size_t wanted = (multiprocessors(device) * grid_blocks + tiles - 1) / tiles;
    return {blocks_of(tiles), static_cast<unsigned>(std::max<std::size_t>(1, std::min(parts, wanted)))};
}

template <class M>
void launch_scan(const ScanTask& task, const DeviceContext& context) {
    const auto stream = static_cast<cudaStream_t>(context.stream);
    if (task.step != 0) {
        launch(&sample_codes<M>, grid_of<M>(task, task.step, context.device), scan_threads, 0, stream, task);
    }
    launch(&scan_codes<M>, grid_of<M>(task, 1, context.device), scan_threads, 0, stream, task);
}

template <unsigned tile, bool whole>
void launch_scan(const ScanTask& task, const DeviceContext& context) {
    if (task.code_bytes <= 8) return launch_scan<Mapping<2, 1, tile, whole>>(task, context);
    if (task.code_bytes <= 16) return launch_scan<Mapping<4, 1, tile, whole>>(task, context);
    if (task.code_bytes <= 32) return launch_scan<Mapping<8, 1, tile, whole>>(task, context);
    if (task.code_bytes <= 64) return launch_scan<Mapping<8, 2, tile, whole>>(task, context);
    if (task.code_bytes <= 128) return launch_scan<Mapping<8, 4, tile, whole>>(task, context);
    if (task.code_bytes <= 256) return launch_scan<Mapping<8, 8, tile, whole>>(task, context);
    launch_scan<Mapping<8, 16, tile, whole>>(task, context);
}

void launch_scan(const ScanTask& task, const DeviceContext& context) {
    const auto codes = reinterpret_cast<std::uintptr_t>(task.codes);
    const auto queries = reinterpret_cast<std::uintptr_t>(task.queries);
    const std::size_t load = task.code_bytes == 8 ? 8 : 16;
    if ((codes | queries | task.code_bytes) % load != 0) return launch_scan<1, false>(task, context);
    if (task.list_offsets != nullptr || task.num_queries == 1) return launch_scan<1, true>(task, context);
    launch_scan<tile_queries, true>(task, context);
}

// Scratch memory of a batch: counts, histograms, keys, spilled keys.
ScanTask task_of(const ScanRequest& request, const Plan& plan, void* scratch) {
    ScanTask task{};
    task.codes = request.codes;
    task.num_codes = request.num_codes;
    task.code_bytes = static_cast<unsigned>(request.code_bytes);
    task.mask = request.mask;
    task.list_offsets = request.list_offsets;
    task.num_lists = request.num_lists;
    task.num_probes = request.num_probes;
    task.k = request.k;
    task.index_bits = static_cast<unsigned>(std::bit_width(request.num_codes));
    task.step = plan.step;
    const auto longest = static_cast<unsigned>(std::bit_width(8 * request.code_bytes - 1));
    task.bin_shift = longest > std::bit_width(histogram_bins - 1) ? longest - std::bit_width(histogram_bins - 1) : 0;
    task.direct = plan.direct;
    task.capacity = plan.capacity;
    task.counts = static_cast<Key*>(scratch);
    task.histograms = reinterpret_cast<unsigned*>(task.counts + plan.batch);
    task.keys = reinterpret_cast<Key*>(task.histograms + plan.batch * histogram_bins);
    return task;
}

void scan_batch(const ScanTask& task, const DeviceContext& context, const Plan& plan, const std::int64_t* ids,
                std::int32_t* distances, std::int64_t* indices) {
    const auto stream = static_cast<cudaStream_t>(context.stream);
    if (!task.direct) {
        check(cudaMemsetAsync(context.scratch, 0, plan.batch * plan.counters(), stream), "cudaMemsetAsync");
    }
    const bool anything = task.num_codes > 0 && (task.list_offsets == nullptr || task.num_probes > 0);
    if (anything) launch_scan(task, context);
    launch(&select_codes, static_cast<unsigned>(task.num_queries), topk_threads, 0, stream, task, ids,
           task.keys + plan.batch * plan.capacity, plan.spilled_a_query, distances, indices);
}

}  // namespace

std::size_t scan_scratch_bytes(const ScanRequest& request) {
    const Plan plan(request);
    return plan.batch * plan.bytes_a_query();
}

void scan(const ScanRequest& request, const DeviceContext& context, std::int32_t* distances, std::int64_t* indices) {
    const OnDevice on_device(context.device);
    const Plan plan(request);
    ScanTask task = task_of(request, plan, context.scratch);
    for (std::size_t first = 0; first < request.num_queries; first += plan.batch) {
        task.queries = request.queries + first * request.code_bytes;
        task.probes = request.probes == nullptr ? nullptr : request.probes + first * request.num_probes;
        task.num_queries = std::min(plan.batch, request.num_queries - first);
        scan_batch(task, context, plan, request.ids, distances + first * request.k, indices + first * request.k);
    }
}

}  // namespace bowerbird::cuda
