#include "bowerbird/walk.hpp"

#include <pybind11/stl.h>

#include <optional>

#include "arguments.hpp"

namespace bowerbird::bindings {
namespace {

constexpr std::int64_t max_ids = 0x7FFFFFFF;
constexpr std::int64_t max_steps = 100000000;  // 8 bytes of memory each

Adjacency adjacency(const Tensor& offsets, const char* offsets_name, const Tensor& neighbours, const char* name) {
    Adjacency edges{};
    edges.offsets = elements<std::int64_t>(offsets, 1, offsets_name);
    edges.num_rows = require_between(offsets.shape[0] - 1, 0, max_ids, (std::string(offsets_name) + ": rows").c_str());
    edges.neighbours = elements<std::int32_t>(neighbours, 1, name);
    edges.num_edges = neighbours.length(0);
    return edges;
}

// The arrays of a graph, kept alive and seen as both sides' edges.
struct Graph {
    Tensor item_offsets, item_boards, board_offsets, board_items, item_bias, board_bias;
    Adjacency items, boards;

    Graph(const Place& place, const py::tuple& arrays, const py::object& item_bias_, const py::object& board_bias_)
        : item_offsets(place.tensor(arrays[0], "item_offsets")),
          item_boards(place.tensor(arrays[1], "item_boards")),
          board_offsets(place.tensor(arrays[2], "board_offsets")),
          board_items(place.tensor(arrays[3], "board_items")),
          items(adjacency(item_offsets, "item_offsets", item_boards, "item_boards")),
          boards(adjacency(board_offsets, "board_offsets", board_items, "board_items")) {
        items.bias = bias(place, item_bias_, item_bias, items.num_edges, "item_bias");
        boards.bias = bias(place, board_bias_, board_bias, boards.num_edges, "board_bias");
    }

    static const std::int32_t* bias(const Place& place, const py::object& value, Tensor& table, std::size_t num_edges,
                                    const char* name) {
        if (value.is_none()) return nullptr;
        table = place.tensor(value, name);
        const std::int32_t* slots = elements<std::int32_t>(table, 2, name);
        require_length(table, 0, num_edges, name);
        require_length(table, 1, 3, name);
        return slots;
    }
};

// The items of all queries, their weights, and where each query begins; kept alive.
struct Queries {
    Tensor items, weights, offsets;

    Queries(const Place& place, const py::tuple& arrays, WalkRequest& request)
        : items(place.tensor(arrays[0], "queries")),
          weights(place.tensor(arrays[1], "weights")),
          offsets(place.tensor(arrays[2], "offsets")) {
        request.queries = elements<std::int64_t>(items, 1, "queries");
        request.num_query_items = require_between(items.shape[0], 0, max_ids, "queries: number");
        request.weights = elements<float>(weights, 1, "weights");
        require_length(weights, 0, request.num_query_items, "weights");
        require_not_negative(weights, "weights");
        request.offsets = elements<std::int64_t>(offsets, 1, "offsets");
        request.num_queries = require_between(offsets.shape[0] - 1, 0, max_ids, "offsets: queries");
    }

    static void require_not_negative(const Tensor& values, const char* name) {
        require_finite(values, name);
        if (!values.on_host()) return;
        const auto* value = static_cast<const float*>(values.data);
        for (std::size_t i = 0; i < values.size(); ++i) {
            if (value[i] >= 0.0F) continue;
            throw py::value_error(std::string(name) + ": expected 0 or more, got " + std::to_string(value[i]) +
                                  " at position " + std::to_string(i));
        }
    }
};

std::uint64_t restart_threshold(double restart) {
    if (restart >= 0.0 && restart <= 1.0) return static_cast<std::uint64_t>(restart * 4294967296.0);
    throw py::value_error("restart: expected 0 to 1, got " + std::to_string(restart));
}

void compute(const Place& place, const WalkRequest& request, float* scores, std::int64_t* items, std::int64_t* steps) {
    if (place.on_host()) {
        const py::gil_scoped_release released;
        walk(request, scores, items, steps);
        return;
    }
    const DeviceWork work = place.work(cuda::walk_scratch_bytes(request));
    const py::gil_scoped_release released;
    cuda::walk(request, work.context, scores, items, steps);
}

py::tuple run(const py::object& where, const py::tuple& graph_, const py::tuple& queries_, std::int64_t k,
              std::int64_t steps, double restart, std::int64_t seed, const py::object& item_bias,
              const py::object& board_bias, std::int64_t stop_items, std::int64_t stop_visits, bool boost,
              std::optional<std::int64_t> max_degree, std::int64_t num_threads) {
    const Place place(where);
    const Graph graph(place, graph_, item_bias, board_bias);
    WalkRequest request{};
    request.items = graph.items;
    request.boards = graph.boards;
    const Queries queries(place, queries_, request);
    request.k = require_between(k, 1, max_k, "k");
    request.steps = require_between(steps, 1, max_steps, "steps");
    request.restart_threshold = restart_threshold(restart);
    request.seed = static_cast<std::uint64_t>(seed);
    request.stop_items = require_between(stop_items, 0, max_ids, "stop_items");
    request.stop_visits = require_between(stop_visits, stop_items > 0 ? 1 : 0, max_ids, "stop_visits");
    request.boost = boost;
    if (max_degree) request.max_degree = require_between(*max_degree, 1, max_ids, "max_degree");
    request.num_threads = require_between(num_threads, 1, max_threads, "num_threads");

    const auto num_queries = static_cast<std::int64_t>(request.num_queries);
    const Tensor scores = place.empty({num_queries, k}, Element::float32);
    const Tensor items = place.empty({num_queries, k}, Element::int64);
    const Tensor steps_taken = place.empty({num_queries}, Element::int64);
    compute(place, request, static_cast<float*>(scores.data), static_cast<std::int64_t*>(items.data),
            static_cast<std::int64_t*>(steps_taken.data));
    return py::make_tuple(scores.owner, items.owner, steps_taken.owner);
}

py::object make_bias_table(const py::object& where, const py::object& offsets_, const py::object& neighbours_,
                           const py::object& weights_, std::int64_t num_threads) {
    const Place place(where);
    if (!place.on_host()) {
        throw py::value_error("offsets: expected an array on the CPU: bias tables are prepared there, once a graph");
    }
    const Tensor offsets = place.tensor(offsets_, "offsets"), neighbours = place.tensor(neighbours_, "neighbours");
    const Tensor weights = place.tensor(weights_, "weights");
    BiasRequest request{};
    request.edges = adjacency(offsets, "offsets", neighbours, "neighbours");
    request.weights = elements<float>(weights, 1, "weights");
    require_length(weights, 0, request.edges.num_edges, "weights");
    Queries::require_not_negative(weights, "weights");
    request.num_threads = require_between(num_threads, 1, max_threads, "num_threads");
    const Tensor table = place.empty({neighbours.shape[0], 3}, Element::int32);
    {
        const py::gil_scoped_release released;
        bias_table(request, static_cast<std::int32_t*>(table.data));
    }
    return table.owner;
}

}  // namespace

void bind_walk(py::module_& module) {
    module.def("walk", &run);
    module.def("bias_table", &make_bias_table);
}

}  // namespace bowerbird::bindings
