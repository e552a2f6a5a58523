// Random walks on a GPU: a thread a walker, visits counted in a hash table of each query by atomics.
// Legend: N items, E edges, T query items in all, Q queries, k results a query.
//
// The floor: a step loads from four random addresses, one 32-byte sector each, and its count is a fifth and sixth
// (compare-and-swap of the key, addition). 100,000 steps are 19 MB, 4.5 us at the 4.3 TB/s that a copy reaches on an
// H200; but the four loads wait for each other, 0.6 to 0.8 us each, and a walker takes 128 steps in a row: about 0.5 ms,
// whatever the number of walkers. A query has 782 walkers, the device room for 270,000: queries in a batch, some 300
// of them, share that time.
//
// The launches, nothing between them on the host:
// 1. look_over: the largest degree, and whether the offsets of the queries ascend from 0 to T.
// 2. set_budgets: a block a query sorts its items, drops repeated ones, and splits the steps. The sums of doubles are
//    made by one thread in the order of walk.hpp, from products that lie in memory, so that none is fused with a sum.
// 3. take_steps: all walkers; with an early stop 64 of each item, then check_stops, and so on to the last round.
// 4. sum_visits: visits by (item of the query, item) become scores by item; atomics on integers in any order.
// 5. rank_items: what is in the table becomes keys, score before id.
// 6. write_best: a block a query picks and sorts the k smallest keys (topk.cuh).
// Queries come in batches whose tables fit batch_bytes.
//
// Memory safety for any values: offsets and ids are looked at before they are used; a table has room for every visit,
// since budgets sum to the steps; a batch's arrays of query items do not overlap, since offsets ascend.
// Reference: src/bowerbird/native/reference/walk.py.
#include "bowerbird/walk.hpp"

#include <algorithm>
#include <bit>

#include "bowerbird/walk_rules.hpp"
#include "scratch.cuh"
#include "topk.cuh"

namespace bowerbird::cuda {
namespace {

using namespace walk_rules;

constexpr unsigned walk_threads = 128;
constexpr unsigned slot_threads = 256;
constexpr unsigned most_blocks = 65535;  // of a grid's second axis
constexpr std::size_t batch_bytes = std::size_t{256} << 20;
constexpr std::uint32_t nowhere = 0xFFFFFFFF;
constexpr double root_unit = 4294967296.0;  // 2^32, see walk.hpp

// A distinct item of a query.
struct Entry {
    std::uint32_t item;
    std::uint32_t budget;
    std::uint32_t first_walker;  // of this query
    std::uint32_t steps;         // that count: all of the budget, or up to the check that stopped it
    std::uint32_t high_items;    // with stop_visits or more
    std::uint32_t stopped;
};

struct Overview {
    Key max_degree;
    unsigned broken;  // the offsets of the queries do not ascend from 0 to T: all queries are empty
};

// Sums by key in `capacity` slots, a power of two; no_key marks a free one.
template <class Sum>
struct Table {
    Key* keys;
    Sum* sums;
    std::size_t capacity;

    __device__ Table of_query(std::size_t query) const {
        return {keys + query * capacity, sums + query * capacity, capacity};
    }

    // The sum of the key before adding to it.
    __device__ Sum add(Key key, Sum summand) const {
        std::size_t slot = mix(key) & (capacity - 1);
        for (;; slot = (slot + 1) & (capacity - 1)) {
            const Key before = atomicCAS(&keys[slot], no_key, key);
            if (before == no_key || before == key) return atomicAdd(&sums[slot], summand);
        }
    }
};

// What the kernels share; arrays with a place a query hold those of one batch.
struct WalkTask {
    WalkRequest request;
    std::size_t first_query;
    Overview* overview;
    Entry* entries;             // (T,), those of query q from its offset on
    double* shares;             // (T,)
    unsigned char* is_first;    // (T,) of its item in its query
    unsigned* num_entries;      // (batch,)
    unsigned* num_walkers;      // (batch,)
    Table<unsigned> visits;     // key: entry << 32 | item
    Table<Key> scores;          // key: item
    Key* ranks;                 // (batch, capacity)
};

struct Range {
    std::size_t begin, end;
};

// Edges of the row; none where its offsets are out of range.
__device__ Range edges_of(const Adjacency& edges, std::size_t row) {
    const std::int64_t begin = edges.offsets[row], end = edges.offsets[row + 1];
    if (begin < 0 || begin > end || static_cast<std::size_t>(end) > edges.num_edges) return {0, 0};
    return {static_cast<std::size_t>(begin), static_cast<std::size_t>(end)};
}

__device__ std::size_t thread_in_grid() { return std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; }
__device__ std::size_t threads_in_grid() { return std::size_t{gridDim.x} * blockDim.x; }

// ---- budgets ----

__global__ void __launch_bounds__(slot_threads) look_over(const WalkTask task) {
    const WalkRequest& request = task.request;
    Key largest = 0;
    for (std::size_t row = thread_in_grid(); row < request.items.num_rows; row += threads_in_grid()) {
        if (request.max_degree > 0) break;
        const Range edges = edges_of(request.items, row);
        const Key degree = edges.end - edges.begin;
        largest = degree > largest ? degree : largest;
    }
    if (request.max_degree > 0) largest = request.max_degree;
    // One atomic a warp: all go to one address. A degree beyond most_degree counts as that (share_of).
    const Key capped = largest < most_degree ? largest : most_degree;
    const unsigned of_warp = __reduce_max_sync(every_lane, static_cast<unsigned>(capped));
    if (threadIdx.x % warp_lanes == 0 && of_warp > 0) atomicMax(&task.overview->max_degree, Key{of_warp});
    for (std::size_t q = thread_in_grid(); q < request.num_queries; q += threads_in_grid()) {
        const std::int64_t begin = request.offsets[q], end = request.offsets[q + 1];
        const auto last = static_cast<std::int64_t>(request.num_query_items);
        const bool starts = q > 0 || begin == 0, ends = q + 1 < request.num_queries || end == last;
        const bool ascends = 0 <= begin && begin <= end && end <= last;
        if (!(starts && ascends && ends)) atomicOr(&task.overview->broken, 1U);
    }
}

__device__ bool is_item(const WalkRequest& request, std::int64_t id) {
    return id >= 0 && static_cast<std::size_t>(id) < request.items.num_rows;
}

__device__ double weight_at(const WalkRequest& request, std::size_t t) {
    const float weight = request.weights[t];
    return weight >= 0.0F && weight <= 3.402823466e38F ? static_cast<double>(weight) : 0.0;
}

// Put the distinct items of a query in ascending order, with their shares of the steps.
__device__ void sort_entries(const WalkTask& task, Range range, unsigned* count) {
    const WalkRequest& request = task.request;
    for (std::size_t t = range.begin + threadIdx.x; t < range.end; t += blockDim.x) {
        bool first = is_item(request, request.queries[t]);
        for (std::size_t u = range.begin; first && u < t; ++u) first = request.queries[u] != request.queries[t];
        task.is_first[t] = first;
        if (first) atomicAdd(count, 1U);
    }
    __syncthreads();
    for (std::size_t t = range.begin + threadIdx.x; t < range.end; t += blockDim.x) {
        if (!task.is_first[t]) continue;
        const std::int64_t item = request.queries[t];
        double weight = weight_at(request, t);
        std::size_t place = range.begin;
        for (std::size_t u = range.begin; u < range.end; ++u) {
            place += task.is_first[u] && request.queries[u] < item;
            if (u > t && request.queries[u] == item) weight += weight_at(request, u);
        }
        const Range edges = edges_of(request.items, static_cast<std::size_t>(item));
        const std::uint64_t scale = share_of(edges.end - edges.begin, task.overview->max_degree);
        task.shares[place] = weight * static_cast<double>(scale);
        task.entries[place] = Entry{static_cast<std::uint32_t>(item), 0, 0, 0, 0, 0};
    }
    __syncthreads();
}

// By one thread: the running sums decide, and their order does too. Returns the number of walkers.
__device__ unsigned split_steps(const WalkTask& task, std::size_t begin, unsigned count) {
    double total = 0.0, sum = 0.0;
    for (unsigned e = 0; e < count; ++e) total += task.shares[begin + e];
    std::uint64_t spent = 0;
    unsigned walkers = 0;
    for (unsigned e = 0; e < count; ++e) {
        Entry& entry = task.entries[begin + e];
        sum += task.shares[begin + e];
        const std::uint64_t due =
            total > 0.0 ? static_cast<std::uint64_t>(static_cast<double>(task.request.steps) * (sum / total)) : 0;
        entry.budget = static_cast<std::uint32_t>(due - spent);
        entry.steps = entry.budget;
        entry.first_walker = walkers;
        walkers += (entry.budget + static_cast<unsigned>(steps_a_walker) - 1) / static_cast<unsigned>(steps_a_walker);
        spent = due;
    }
    return walkers;
}

__global__ void __launch_bounds__(slot_threads) set_budgets(const WalkTask task, std::int64_t* steps_taken) {
    const std::size_t query = blockIdx.x, q = task.first_query + query;
    __shared__ unsigned count;
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    Range range{0, 0};
    if (task.overview->broken == 0) {
        range = {static_cast<std::size_t>(task.request.offsets[q]),
                 static_cast<std::size_t>(task.request.offsets[q + 1])};
    }
    sort_entries(task, range, &count);
    if (threadIdx.x > 0) return;
    task.num_entries[query] = count;
    task.num_walkers[query] = split_steps(task, range.begin, count);
    std::int64_t steps = 0;
    for (unsigned e = 0; e < count; ++e) steps += task.entries[range.begin + e].budget;
    steps_taken[q] = steps;
}

// ---- steps ----

// The row that the bits choose; nowhere if the row has no edge, or leads to no row of the other side.
__device__ std::uint32_t follow(const Adjacency& edges, std::size_t num_targets, std::uint32_t row, std::uint64_t bits) {
    const Range range = edges_of(edges, row);
    if (range.begin == range.end) return nowhere;
    const std::size_t edge = range.begin + slot_of(bits, range.end - range.begin);
    std::int32_t neighbour;
    if (edges.bias == nullptr) {
        neighbour = edges.neighbours[edge];
    } else {
        const std::int32_t* slot = edges.bias + 3 * edge;
        neighbour = keeps_slot(bits, slot[0]) ? slot[1] : slot[2];
    }
    const bool is_row = neighbour >= 0 && static_cast<std::size_t>(neighbour) < num_targets;
    return is_row ? static_cast<std::uint32_t>(neighbour) : nowhere;
}

__device__ void take_steps_of(const WalkTask& task, std::size_t query, Entry& entry, unsigned e, std::uint64_t walker) {
    const WalkRequest& request = task.request;
    const Table<unsigned> visits = task.visits.of_query(query);
    const std::uint64_t before = walker * steps_a_walker;
    std::uint64_t stream = stream_of(request.seed, entry.item, walker);
    std::uint32_t here = entry.item;
    for (std::uint64_t step = before; step < entry.budget && step < before + steps_a_walker; ++step) {
        const std::uint32_t board = follow(request.items, request.boards.num_rows, here, draw(stream, board_draw));
        std::uint32_t there = nowhere;
        if (board != nowhere) there = follow(request.boards, request.items.num_rows, board, draw(stream, item_draw));
        const bool back = there == nowhere || restarts(draw(stream, restart_draw), request.restart_threshold);
        stream = advance(stream);
        here = back ? entry.item : there;
        if (there == nowhere) continue;
        const unsigned seen = visits.add(Key{e} << 32 | there, 1U) + 1;
        if (seen == request.stop_visits) atomicAdd(&entry.high_items, 1U);
    }
}

// The entry that has this walker of its query; entries without walkers are passed over.
__device__ unsigned entry_of(const Entry* entries, unsigned count, unsigned walker) {
    unsigned low = 0, high = count;
    while (high - low > 1) {
        const unsigned middle = (low + high) / 2;
        (entries[middle].first_walker <= walker ? low : high) = middle;
    }
    return low;
}

// Blocks: (part of a query's walkers, query of the batch). round: which 64 walkers of each item, with an early stop.
__global__ void __launch_bounds__(walk_threads) take_steps(const WalkTask task, std::uint64_t round) {
    const std::size_t query = blockIdx.y;
    const unsigned count = task.num_entries[query];
    if (count == 0) return;
    Entry* entries = task.entries + task.request.offsets[task.first_query + query];
    const bool stopping = task.request.stop_items > 0;
    const std::size_t walkers = stopping ? count * walkers_a_check : task.num_walkers[query];
    for (std::size_t w = thread_in_grid(); w < walkers; w += threads_in_grid()) {
        if (stopping) {
            const auto e = static_cast<unsigned>(w / walkers_a_check);
            if (entries[e].stopped != 0) continue;
            take_steps_of(task, query, entries[e], e, round * walkers_a_check + w % walkers_a_check);
        } else {
            const unsigned e = entry_of(entries, count, static_cast<unsigned>(w));
            take_steps_of(task, query, entries[e], e, w - entries[e].first_walker);
        }
    }
}

// After a round: the walks that have reached the target end here.
__global__ void __launch_bounds__(slot_threads)
    check_stops(const WalkTask task, std::uint64_t round, std::int64_t* steps_taken) {
    const std::size_t query = blockIdx.x, q = task.first_query + query;
    const unsigned count = task.num_entries[query];
    if (count == 0) return;
    Entry* entries = task.entries + task.request.offsets[q];
    const std::uint64_t taken = (round + 1) * walkers_a_check * steps_a_walker;
    for (unsigned e = threadIdx.x; e < count; e += blockDim.x) {
        Entry& entry = entries[e];
        if (entry.stopped != 0 || entry.high_items < task.request.stop_items) continue;
        entry.stopped = 1;
        if (taken < entry.budget) entry.steps = static_cast<std::uint32_t>(taken);
    }
    __syncthreads();
    if (threadIdx.x > 0) return;
    std::int64_t steps = 0;
    for (unsigned e = 0; e < count; ++e) steps += entries[e].steps;
    steps_taken[q] = steps;
}

// ---- scores ----

__global__ void __launch_bounds__(slot_threads) sum_visits(const WalkTask task) {
    const Table<unsigned> visits = task.visits.of_query(blockIdx.y);
    const Table<Key> scores = task.scores.of_query(blockIdx.y);
    for (std::size_t slot = thread_in_grid(); slot < visits.capacity; slot += threads_in_grid()) {
        const Key visit = visits.keys[slot];
        if (visit == no_key) continue;
        const unsigned n = visits.sums[slot];
        const Key root = static_cast<Key>(sqrt(static_cast<double>(n)) * root_unit);
        scores.add(visit & 0xFFFFFFFFU, task.request.boost ? root : Key{n});
    }
}

__device__ bool is_query_item(const Entry* entries, unsigned count, std::uint32_t item) {
    unsigned low = 0, high = count;
    while (low < high) {
        const unsigned middle = (low + high) / 2;
        if (entries[middle].item == item) return true;
        if (entries[middle].item < item) low = middle + 1;
        else high = middle;
    }
    return false;
}

__global__ void __launch_bounds__(slot_threads) rank_items(const WalkTask task) {
    const std::size_t query = blockIdx.y;
    const Table<Key> scores = task.scores.of_query(query);
    const unsigned count = task.num_entries[query];
    const Entry* entries = task.entries + (count > 0 ? task.request.offsets[task.first_query + query] : 0);
    for (std::size_t slot = thread_in_grid(); slot < scores.capacity; slot += threads_in_grid()) {
        const Key item = scores.keys[slot];
        Key rank = no_key;
        if (item != no_key && !is_query_item(entries, count, static_cast<std::uint32_t>(item))) {
            const double sum = static_cast<double>(scores.sums[slot]);
            const double root = sum / root_unit;
            const float score = static_cast<float>(task.request.boost ? root * root : sum);
            rank = Key{~__float_as_uint(score)} << 32 | item;
        }
        task.ranks[query * scores.capacity + slot] = rank;
    }
}

__global__ void __launch_bounds__(topk_threads, 2)
    write_best(const WalkTask task, Key* spilled, std::size_t spilled_a_query, float* scores, std::int64_t* items) {
    const std::size_t query = blockIdx.x, capacity = task.scores.capacity, k = task.request.k;
    const auto wanted = static_cast<unsigned>(k < capacity ? k : capacity);
    __shared__ Key shared_keys[sorted_in_shared];
    const KeyArray ranks(task.ranks + query * capacity, capacity);
    const Key* best = smallest_keys(ranks, wanted, 64, shared_keys, spilled + query * spilled_a_query);
    for (std::size_t i = threadIdx.x; i < k; i += topk_threads) {
        const Key rank = i < wanted ? best[i] : no_key;
        const std::size_t at = (task.first_query + query) * k + i;
        scores[at] = rank == no_key ? 0.0F : __uint_as_float(~static_cast<unsigned>(rank >> 32));
        items[at] = rank == no_key ? -1 : static_cast<std::int64_t>(rank & 0xFFFFFFFFU);
    }
}

// ---- launches ----

struct Layout {
    std::size_t capacity, spilled_a_query, batch, bytes;
    WalkTask task{};
    Key* spilled;

    Layout(const WalkRequest& request, void* scratch) {
        capacity = std::bit_ceil(static_cast<std::size_t>(request.steps) + request.steps / 2 + 1);
        spilled_a_query = spilled_keys(std::min(request.k, capacity));
        const std::size_t a_query = capacity * (3 * sizeof(Key) + sizeof(unsigned)) + spilled_a_query * sizeof(Key);
        batch = std::clamp<std::size_t>(batch_bytes / a_query, 1, std::max<std::size_t>(1, request.num_queries));
        batch = std::min<std::size_t>(batch, most_blocks);
        Scratch take(scratch);
        task.request = request;
        task.overview = take.array<Overview>(1);
        task.entries = take.array<Entry>(request.num_query_items);
        task.shares = take.array<double>(request.num_query_items);
        task.is_first = take.array<unsigned char>(request.num_query_items);
        task.num_entries = take.array<unsigned>(batch);
        task.num_walkers = take.array<unsigned>(batch);
        task.visits = {take.array<Key>(batch * capacity), take.array<unsigned>(batch * capacity), capacity};
        task.scores = {take.array<Key>(batch * capacity), take.array<Key>(batch * capacity), capacity};
        task.ranks = task.visits.keys;  // its keys are spent by then
        spilled = take.array<Key>(batch * spilled_a_query);
        bytes = take.bytes();
    }
};

unsigned blocks_for(std::size_t threads, unsigned block) {
    return static_cast<unsigned>(std::clamp<std::size_t>((threads + block - 1) / block, 1, 4096));
}

template <class Sum>
void clear(const Table<Sum>& table, std::size_t queries, cudaStream_t stream) {
    check(cudaMemsetAsync(table.keys, 0xFF, queries * table.capacity * sizeof(Key), stream), "cudaMemsetAsync");
    check(cudaMemsetAsync(table.sums, 0, queries * table.capacity * sizeof(Sum), stream), "cudaMemsetAsync");
}

void launch_steps(const WalkTask& task, unsigned queries, cudaStream_t stream, std::int64_t* steps_taken) {
    const WalkRequest& request = task.request;
    const std::size_t items_a_query = request.num_query_items / request.num_queries + 1;  // on average
    if (request.stop_items == 0) {
        const unsigned blocks = blocks_for(request.steps / steps_a_walker + items_a_query, walk_threads);
        launch(&take_steps, dim3(blocks, queries), walk_threads, 0, stream, task, std::uint64_t{0});
        return;
    }
    const unsigned blocks = blocks_for(items_a_query * walkers_a_check, walk_threads);
    const std::uint64_t round_steps = walkers_a_check * steps_a_walker;
    for (std::uint64_t round = 0; round * round_steps < request.steps; ++round) {
        launch(&take_steps, dim3(blocks, queries), walk_threads, 0, stream, task, round);
        launch(&check_stops, queries, slot_threads, 0, stream, task, round, steps_taken);
    }
}

void launch_batch(const Layout& layout, const WalkTask& task, unsigned queries, cudaStream_t stream, float* scores,
                  std::int64_t* items, std::int64_t* steps_taken) {
    clear(task.visits, queries, stream);
    clear(task.scores, queries, stream);
    launch(&set_budgets, queries, slot_threads, 0, stream, task, steps_taken);
    launch_steps(task, queries, stream, steps_taken);
    const dim3 slots(blocks_for(layout.capacity / 4, slot_threads), queries);
    launch(&sum_visits, slots, slot_threads, 0, stream, task);
    launch(&rank_items, slots, slot_threads, 0, stream, task);
    launch(&write_best, queries, topk_threads, 0, stream, task, layout.spilled, layout.spilled_a_query, scores, items);
}

}  // namespace

std::size_t walk_scratch_bytes(const WalkRequest& request) { return Layout(request, nullptr).bytes; }

void walk(const WalkRequest& request, const DeviceContext& context, float* scores, std::int64_t* items,
          std::int64_t* steps_taken) {
    if (request.num_queries == 0) return;
    const OnDevice on_device(context.device);
    const auto stream = static_cast<cudaStream_t>(context.stream);
    const Layout layout(request, context.scratch);
    WalkTask task = layout.task;
    check(cudaMemsetAsync(task.overview, 0, sizeof(Overview), stream), "cudaMemsetAsync");
    const std::size_t rows = std::max(request.max_degree > 0 ? 0 : request.items.num_rows, request.num_queries);
    launch(&look_over, blocks_for(rows / 8, slot_threads), slot_threads, 0, stream, task);
    for (; task.first_query < request.num_queries; task.first_query += layout.batch) {
        const std::size_t queries = std::min(layout.batch, request.num_queries - task.first_query);
        launch_batch(layout, task, static_cast<unsigned>(queries), stream, scores, items, steps_taken);
    }
}

}  // namespace bowerbird::cuda
