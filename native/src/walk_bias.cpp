#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "bowerbird/walk.hpp"
#include "bowerbird/walk_rules.hpp"
#include "parallel.hpp"

namespace bowerbird {
namespace {

constexpr std::size_t rows_a_task = 4096;

// Vose's construction, one row after the other: slots short of an even share are filled up from ones above it.
class AliasRow {
public:
    void build(const std::int32_t* neighbours, const float* weights, std::size_t degree, std::int32_t* table) {
        double total = 0.0;
        for (std::size_t i = 0; i < degree; ++i) total += weights[i];
        const double scale = total > 0.0 ? static_cast<double>(degree) / total : 0.0;
        sort_slots(weights, degree, scale);
        for (std::size_t i = 0; i < degree; ++i) set(table, i, 1.0, neighbours[i], neighbours[i]);
        if (total == 0.0) return;
        while (!small_.empty() && !large_.empty()) {
            const std::size_t low = small_.back(), high = large_.back();
            small_.pop_back();
            set(table, low, share_[low], neighbours[low], neighbours[high]);
            share_[high] -= 1.0 - share_[low];
            if (share_[high] < 1.0) {
                large_.pop_back();
                small_.push_back(high);
            }
        }
        // What is left is an even share but for rounding, and keeps its slot; weight 0 must not.
        for (const std::size_t i : small_) {
            if (weights[i] == 0.0F) set(table, i, 0.0, neighbours[i], neighbours[heaviest_]);
        }
    }

private:
    void sort_slots(const float* weights, std::size_t degree, double scale) {
        share_.resize(degree);
        small_.clear();
        large_.clear();
        heaviest_ = 0;
        for (std::size_t i = 0; i < degree; ++i) {
            share_[i] = weights[i] * scale;
            (share_[i] < 1.0 ? small_ : large_).push_back(i);
            if (weights[i] > weights[heaviest_]) heaviest_ = i;
        }
    }

    static void set(std::int32_t* table, std::size_t i, double share, std::int32_t own, std::int32_t alias) {
        const double coins = static_cast<double>(walk_rules::coin_mask);
        table[3 * i] = static_cast<std::int32_t>(share * coins + 0.5);
        table[3 * i + 1] = own;
        table[3 * i + 2] = alias;
    }

    std::vector<double> share_;  // of the row's weight, times its degree: 1 is even
    std::vector<std::size_t> small_, large_;
    std::size_t heaviest_ = 0;
};

void require_ascending(const Adjacency& edges) {
    const auto last = static_cast<std::int64_t>(edges.num_edges);
    bool good = edges.offsets[0] == 0 && edges.offsets[edges.num_rows] == last;
    for (std::size_t row = 0; row < edges.num_rows; ++row) good &= edges.offsets[row] <= edges.offsets[row + 1];
    if (good) return;
    throw std::invalid_argument("offsets: expected values that ascend from 0 to the number of edges, " +
                                std::to_string(last));
}

}  // namespace

void bias_table(const BiasRequest& request, std::int32_t* table) {
    const Adjacency& edges = request.edges;
    require_ascending(edges);
    parallel_for((edges.num_rows + rows_a_task - 1) / rows_a_task, request.num_threads, [&](std::size_t task) {
        AliasRow builder;
        const std::size_t end = std::min(edges.num_rows, (task + 1) * rows_a_task);
        for (std::size_t row = task * rows_a_task; row < end; ++row) {
            const std::int64_t first = edges.offsets[row];
            builder.build(edges.neighbours + first, request.weights + first,
                          static_cast<std::size_t>(edges.offsets[row + 1] - first), table + 3 * first);
        }
    });
}

}  // namespace bowerbird
