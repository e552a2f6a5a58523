// Random walks with restart on a graph of items and boards, visits counted, top-k.
// Legend: N items, M boards, E edges, T query items in all, Q queries, k results a query.
//
// After Pixie (Eksombatchai et al., WWW 2018, Algorithms 2 and 3). A query is a set of items with weights. The walk of
// one item of degree d gets n = w s / sum(w s) of the query's steps, s = d (1 + ln max_degree - ln d). With c the
// running sum of the doubles w s over the query's items by ascending id, an item's budget is floor(steps * (c / total))
// less the same of the item before it, so that the budgets sum to the steps. An item named twice counts once, with the
// sum of its weights. Where this is not Pixie's, and why:
// - s: the paper has d (C - ln d). With its C, the largest degree itself, budgets all but follow the degree; with the
//   logarithm of that, they grow slower than the degree, which is the aim, but an item of the highest degree would get
//   no step at all: hence the 1.
// - n: the paper divides by sum(s), so that steps grow with the weights. Here `steps` is what a query costs.
// - A walker gives way to a new one after 128 steps, so that many walk at a time; the stop is looked for every 64.
//
// A walk is a row of walkers. Walker j begins at the query item and takes the steps 128 j to 128 j + 127 of the budget.
// A step goes to a board of the item and on to an item of that board, which it counts as visited; then, with
// probability `restart`, the walker returns to the query item. A step that meets an item without boards or a board
// without items counts as a step, visits nothing, and returns. With an early stop, the walk ends after the first
// 64 walkers, or 128, 192, ..., that have left stop_items items with at least stop_visits visits.
//
// Step i of walker j of an item draws three numbers from the stream of (seed, item, j): see walk_rules.hpp. So a walk
// depends on its seed, item and budget alone, and not on threads, on other queries, or on the order of the items.
//
// The score of an item is (sum_q sqrt(visits_q))^2 over the query's walks (the multi-hit booster), or the sum of the
// visits. The roots are summed in units of 2^-32, rounded down: the sum is the same in any order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bowerbird/device.hpp"

namespace bowerbird {

// The edges of one side: row r has neighbours[offsets[r] ... offsets[r + 1]).
struct Adjacency {
    const std::int64_t* offsets;  // (num_rows + 1)
    std::size_t num_rows;
    const std::int32_t* neighbours;  // (num_edges)
    const std::int32_t* bias;        // (num_edges, 3) of bias_table, read instead of neighbours; null: all edges alike
    std::size_t num_edges;
};

struct WalkRequest {
    Adjacency items;   // item -> its boards
    Adjacency boards;  // board -> its items
    const std::int64_t* queries;  // (T), item ids
    const float* weights;         // (T), finite, >= 0; an item of weight 0 takes no steps, and is left out of the result
    const std::int64_t* offsets;  // (Q + 1): query q is queries[offsets[q] ... offsets[q + 1])
    std::size_t num_query_items;
    std::size_t num_queries;
    std::size_t k;                    // >= 1
    std::uint64_t steps;              // a query, 1 to 10^8
    std::uint64_t restart_threshold;  // probability of a restart, times 2^32
    std::uint64_t seed;
    std::uint64_t stop_items;   // 0: no early stop
    std::uint64_t stop_visits;  // >= 1 with an early stop
    bool boost;
    std::uint64_t max_degree;  // of all items; 0: find it, which reads all of items.offsets
    std::size_t num_threads;   // >= 1
};

// Fill scores (Q, k) and items (Q, k), best first, ties keep the lower id, 0 and -1 where there are fewer; the query's
// own items are left out. Fill steps_taken (Q).
// Throws std::invalid_argument when request.offsets do not ascend from 0 to T, or the walk meets an offset or an id that
// is out of range.
void walk(const WalkRequest& request, float* scores, std::int64_t* items, std::int64_t* steps_taken);

namespace cuda {

// The same on a device. There a query item, an id or an offset of the graph that is out of range counts as none, like an
// item without boards; a weight that is negative or not finite counts as 0; and if the offsets of the queries do not
// ascend from 0 to T, all queries are empty.
std::size_t walk_scratch_bytes(const WalkRequest& request);
void walk(const WalkRequest& request, const DeviceContext& context, float* scores, std::int64_t* items,
          std::int64_t* steps_taken);

}  // namespace cuda

// Alias tables (Walker 1977, Vose 1991) of weighted edges, one table a row: an edge is drawn by choosing a slot
// uniformly, then the slot's own neighbour with probability threshold / 2^31, its alias otherwise. A slot is
// (threshold, neighbour, alias): one load a draw. A row whose weights are all zero has no preference.
struct BiasRequest {
    Adjacency edges;  // bias is not read
    const float* weights;  // (num_edges), finite, >= 0
    std::size_t num_threads;
};

// Fill table (num_edges, 3).
// Throws std::invalid_argument when the offsets do not ascend from 0 to num_edges, or a weight is negative or not finite.
void bias_table(const BiasRequest& request, std::int32_t* table);

}  // namespace bowerbird
