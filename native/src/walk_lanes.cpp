#include "walk_lanes.hpp"

#include <stdexcept>
#include <string>

#include "bowerbird/walk_rules.hpp"

namespace bowerbird {
namespace {

using namespace walk_rules;

constexpr std::uint32_t nowhere = 0xFFFFFFFF;  // no row has this id
constexpr std::uint64_t no_edge = ~std::uint64_t{0};

struct Side {
    const Adjacency& edges;
    std::uint64_t num_targets;
    const char* offsets_name;
    const char* neighbours_name;
    const char* bias_name;
};

[[noreturn]] void refuse_neighbour(const Side& side, std::int32_t neighbour) {
    throw std::invalid_argument(std::string(side.edges.bias != nullptr ? side.bias_name : side.neighbours_name) +
                                ": expected ids from 0 to below " + std::to_string(side.num_targets) + ", got " +
                                std::to_string(neighbour));
}

class Lanes {
public:
    Lanes(const WalkRequest& request, const Walker* walkers, std::size_t count)
        : walkers_(walkers),
          active_(count),
          restart_threshold_(request.restart_threshold),
          items_{request.items, request.boards.num_rows, "item_offsets", "item_boards", "item_bias"},
          boards_{request.boards, request.items.num_rows, "board_offsets", "board_items", "board_bias"} {
        for (std::size_t lane = 0; lane < count; ++lane) {
            streams_[lane] = walkers[lane].stream;
            rows_[lane] = walkers[lane].home;
        }
    }

    std::size_t run(std::uint64_t* visits) {
        std::size_t num_visits = 0;
        for (std::uint32_t step = 0;; ++step) {
            while (active_ > 0 && walkers_[active_ - 1].steps <= step) --active_;
            if (active_ == 0) return num_visits;
            choose(items_, board_draw);
            follow(items_, [&](std::size_t lane, std::uint32_t board) {
                rows_[lane] = board;
                if (board != nowhere) request_offsets(boards_, board);
            });
            choose(boards_, item_draw);
            follow(boards_, [&](std::size_t lane, std::uint32_t item) {
                visits[num_visits] = std::uint64_t{walkers_[lane].entry} << 32 | item;
                num_visits += item != nowhere;
                const bool back = restarts(draw(streams_[lane], restart_draw), restart_threshold_) || item == nowhere;
                streams_[lane] = advance(streams_[lane]);
                rows_[lane] = back ? walkers_[lane].home : item;
                request_offsets(items_, rows_[lane]);
            });
        }
    }

private:
    // Row -> index of one of its edges.
    void choose(const Side& side, Draw which) {
        for (std::size_t lane = 0; lane < active_; ++lane) {
            const std::uint32_t row = rows_[lane];
            edges_[lane] = no_edge;
            if (row == nowhere) continue;
            const std::uint64_t degree = degree_of(side.edges, row, side.offsets_name);
            if (degree == 0) continue;
            const std::uint64_t bits = draw(streams_[lane], which);
            const std::uint64_t edge = static_cast<std::uint64_t>(side.edges.offsets[row]) + slot_of(bits, degree);
            edges_[lane] = edge;
            bits_[lane] = bits;
            __builtin_prefetch(side.edges.bias != nullptr ? side.edges.bias + 3 * edge : side.edges.neighbours + edge);
        }
    }

    // Index of an edge -> the row it leads to, handed to arrive(lane, row).
    template <class Arrive>
    void follow(const Side& side, Arrive&& arrive) {
        for (std::size_t lane = 0; lane < active_; ++lane) {
            if (edges_[lane] == no_edge) {
                arrive(lane, nowhere);
                continue;
            }
            const std::int32_t neighbour = neighbour_of(side.edges, edges_[lane], bits_[lane]);
            if (neighbour < 0 || static_cast<std::uint64_t>(neighbour) >= side.num_targets) {
                refuse_neighbour(side, neighbour);
            }
            arrive(lane, static_cast<std::uint32_t>(neighbour));
        }
    }

    static std::int32_t neighbour_of(const Adjacency& edges, std::uint64_t edge, std::uint64_t bits) {
        if (edges.bias == nullptr) return edges.neighbours[edge];
        const std::int32_t* slot = edges.bias + 3 * edge;
        return keeps_slot(bits, slot[0]) ? slot[1] : slot[2];
    }

    static void request_offsets(const Side& side, std::uint32_t row) {
        __builtin_prefetch(side.edges.offsets + row);
        __builtin_prefetch(side.edges.offsets + row + 1);  // one time in eight on the next line
    }

    const Walker* const walkers_;
    std::size_t active_;
    const std::uint64_t restart_threshold_;
    const Side items_, boards_;
    std::uint64_t streams_[most_lanes];
    std::uint64_t edges_[most_lanes];
    std::uint64_t bits_[most_lanes];
    std::uint32_t rows_[most_lanes];
};

}  // namespace

void refuse_offsets(const Adjacency& edges, std::size_t row, const char* name) {
    throw std::invalid_argument(std::string(name) + ": expected values that ascend from 0 to " +
                                std::to_string(edges.num_edges) + ", got " + std::to_string(edges.offsets[row]) +
                                " and " + std::to_string(edges.offsets[row + 1]) + " at " + std::to_string(row));
}

std::size_t take_steps(const WalkRequest& request, const Walker* walkers, std::size_t count, std::uint64_t* visits) {
    return Lanes(request, walkers, count).run(visits);
}

}  // namespace bowerbird
