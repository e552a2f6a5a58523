#include "bowerbird/walk.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <memory>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "bowerbird/walk_rules.hpp"
#include "parallel.hpp"
#include "sum_by_key.hpp"
#include "topk.hpp"
#include "walk_lanes.hpp"

namespace bowerbird {
namespace {

using namespace walk_rules;

// Visits are counted in parts of the hash space, each small enough for its table to stay in the first-level cache. Parts
// also let threads count and rank without locks.
constexpr std::uint64_t visits_a_part = 1024;
constexpr int most_part_bits = 8;
constexpr double root_unit = 4294967296.0;  // 2^32, see walk.hpp

int part_bits_of(std::uint64_t steps) {
    return std::min(most_part_bits, static_cast<int>(std::bit_width(steps / visits_a_part)));
}

// One item of a query, and the walk from there.
struct Entry {
    std::uint32_t item;
    double weight;
    std::uint64_t degree;
    std::uint64_t budget = 0;
    std::uint64_t steps = 0;       // taken or under way
    std::uint64_t high_items = 0;  // with stop_visits or more
};

// Score and item as one number, better first: the higher score, then the lower id. Scores are above 0, and such floats
// are ordered as their bits are.
std::uint64_t rank_of(float score, std::uint32_t item) {
    return std::uint64_t{~std::bit_cast<std::uint32_t>(score)} << 32 | item;
}
float score_of_rank(std::uint64_t rank) { return std::bit_cast<float>(~static_cast<std::uint32_t>(rank >> 32)); }
std::uint32_t item_of_rank(std::uint64_t rank) { return static_cast<std::uint32_t>(rank); }

// Every query item belongs to one query.
void require_ascending(const WalkRequest& request) {
    const auto refuse = [&](std::int64_t got, std::size_t at) {
        throw std::invalid_argument("offsets: expected values that ascend from 0 to " +
                                    std::to_string(request.num_query_items) + ", got " + std::to_string(got) + " at " +
                                    std::to_string(at));
    };
    const std::int64_t last = request.offsets[request.num_queries];
    if (request.offsets[0] != 0) refuse(request.offsets[0], 0);
    for (std::size_t q = 1; q <= request.num_queries; ++q) {
        if (request.offsets[q] < request.offsets[q - 1]) refuse(request.offsets[q], q);
    }
    if (last != static_cast<std::int64_t>(request.num_query_items)) refuse(last, request.num_queries);
}

// The distinct items of query q, ascending, with the sums of their weights.
std::vector<Entry> read_entries(const WalkRequest& request, std::size_t q) {
    std::vector<Entry> entries;
    for (std::int64_t t = request.offsets[q]; t < request.offsets[q + 1]; ++t) {
        const std::int64_t item = request.queries[t];
        if (item < 0 || static_cast<std::size_t>(item) >= request.items.num_rows) {
            throw std::invalid_argument("queries: expected item ids from 0 to below " +
                                        std::to_string(request.items.num_rows) + ", got " + std::to_string(item));
        }
        const std::uint64_t degree = degree_of(request.items, static_cast<std::size_t>(item), "item_offsets");
        entries.push_back({static_cast<std::uint32_t>(item), request.weights[t], degree});
    }
    std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.item < b.item; });
    std::size_t kept = 0;
    for (const Entry& entry : entries) {
        if (kept > 0 && entries[kept - 1].item == entry.item) {
            entries[kept - 1].weight += entry.weight;
        } else {
            entries[kept++] = entry;
        }
    }
    entries.resize(kept);
    return entries;
}

// Split the steps of the query over its items.
void set_budgets(const WalkRequest& request, std::uint64_t max_degree, std::vector<Entry>& entries) {
    const auto share = [&](const Entry& entry) {
        return entry.weight * static_cast<double>(share_of(entry.degree, max_degree));
    };
    double total = 0.0, sum = 0.0;
    for (const Entry& entry : entries) total += share(entry);
    if (total == 0.0) return;
    std::uint64_t spent = 0;
    for (Entry& entry : entries) {
        sum += share(entry);
        const auto due = static_cast<std::uint64_t>(static_cast<double>(request.steps) * (sum / total));
        entry.budget = due - spent;
        spent = due;
    }
}

// The visits of one group of walkers, those of a part side by side.
struct VisitBlock {
    std::unique_ptr<std::uint64_t[]> visits;  // entry << 32 | item
    std::vector<std::uint32_t> begins;        // by part, and the end
};

VisitBlock sort_by_part(const std::uint64_t* visits, std::size_t count, int part_bits) {
    const auto part_of = [&](std::uint64_t visit) {
        return part_bits == 0 ? 0 : hash_of(visit & 0xFFFFFFFF) >> (64 - part_bits);
    };
    VisitBlock block{std::make_unique_for_overwrite<std::uint64_t[]>(count),
                     std::vector<std::uint32_t>((std::size_t{1} << part_bits) + 1)};
    std::vector<std::uint32_t> ends(block.begins.size());
    for (std::size_t i = 0; i < count; ++i) ++block.begins[part_of(visits[i]) + 1];
    std::partial_sum(block.begins.begin(), block.begins.end(), block.begins.begin());
    std::copy(block.begins.begin(), block.begins.end(), ends.begin());
    for (std::size_t i = 0; i < count; ++i) block.visits[ends[part_of(visits[i])]++] = visits[i];
    return block;
}

// One query: rounds of walkers, then their visits counted, scored and ranked.
class QueryWalk {
public:
    QueryWalk(const WalkRequest& request, std::uint64_t max_degree, std::size_t q, std::size_t num_threads)
        : request_(request),
          // A check of the early stop every 8192 steps would cost a second thread more than it gives.
          num_threads_(request.stop_items > 0 ? 1 : num_threads),
          part_bits_(part_bits_of(request.steps)),
          entries_(read_entries(request, q)) {
        set_budgets(request, max_degree, entries_);
        high_counts_.reserve(entries_.size());
        for (std::size_t e = 0; e < entries_.size() && request.stop_items > 0; ++e) high_counts_.emplace_back(0);
    }

    // The ranks of the best items, at most k; the query's own are not among them.
    std::vector<std::uint64_t> run() {
        while (line_up_walkers()) walk_round();
        const std::size_t num_parts = std::size_t{1} << part_bits_;
        std::vector<std::uint64_t> best;
        std::mutex mutex;
        std::atomic<std::size_t> next{0};
        parallel_for(num_threads_, num_threads_, [&](std::size_t) {
            PartRanking ranking(*this);
            for (std::size_t part; (part = next.fetch_add(1)) < num_parts;) ranking.add(part);
            const std::vector<std::uint64_t> found = ranking.take();
            const std::lock_guard lock(mutex);
            best.insert(best.end(), found.begin(), found.end());
        });
        std::sort(best.begin(), best.end());
        best.resize(std::min(request_.k, best.size()));
        return best;
    }

    std::uint64_t steps_taken() const {
        std::uint64_t steps = 0;
        for (const Entry& entry : entries_) steps += entry.steps;
        return steps;
    }

private:
    // Line up the walkers of the next round; false if all walks are over. Without an early stop there is one round.
    bool line_up_walkers() {
        walkers_.clear();
        const std::uint64_t most = request_.stop_items > 0 ? walkers_a_check * steps_a_walker : request_.steps;
        for (std::size_t e = 0; e < entries_.size(); ++e) {
            Entry& entry = entries_[e];
            if (request_.stop_items > 0 && entry.high_items >= request_.stop_items) continue;
            const std::uint64_t end = std::min(entry.budget, entry.steps + most);
            for (; entry.steps < end; entry.steps = std::min(end, entry.steps + steps_a_walker)) {
                const std::uint64_t stream = stream_of(request_.seed, entry.item, entry.steps / steps_a_walker);
                const std::uint64_t steps = std::min(steps_a_walker, end - entry.steps);
                walkers_.push_back({stream, entry.item, static_cast<std::uint32_t>(e),
                                    static_cast<std::uint32_t>(steps)});
            }
        }
        std::stable_sort(walkers_.begin(), walkers_.end(),
                         [](const Walker& a, const Walker& b) { return a.steps > b.steps; });
        return !walkers_.empty();
    }

    // Groups of equal size, the same number for each thread.
    void walk_round() {
        const std::size_t full = (walkers_.size() + most_lanes - 1) / most_lanes;
        const std::size_t groups = (full + num_threads_ - 1) / num_threads_ * num_threads_;
        const std::size_t before = blocks_.size();
        blocks_.resize(before + groups);
        std::atomic<std::size_t> next{0};
        parallel_for(num_threads_, num_threads_, [&](std::size_t) {
            const auto visits = std::make_unique_for_overwrite<std::uint64_t[]>(most_lanes * steps_a_walker);
            for (std::size_t group; (group = next.fetch_add(1)) < groups;) {
                const std::size_t begin = walkers_.size() * group / groups;
                const std::size_t end = walkers_.size() * (group + 1) / groups;
                const std::size_t count = take_steps(request_, walkers_.data() + begin, end - begin, visits.get());
                blocks_[before + group] = sort_by_part(visits.get(), count, part_bits_);
                if (request_.stop_items > 0) note_high_items(visits.get(), count);
            }
        });
    }

    void note_high_items(const std::uint64_t* visits, std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t e = visits[i] >> 32;
            entries_[e].high_items += high_counts_[e].add(visits[i] & 0xFFFFFFFF, 1) == request_.stop_visits;
        }
    }

    // The best of the parts that one thread takes.
    class PartRanking {
    public:
        explicit PartRanking(const QueryWalk& query)
            : query_(query),
              counts_(query.part_bits_),
              sums_(query.part_bits_),
              best_(std::min<std::size_t>(query.request_.k, query.request_.steps)) {}

        void add(std::size_t part) {
            std::size_t num_visits = 0;
            for (const VisitBlock& block : query_.blocks_) num_visits += block.begins[part + 1] - block.begins[part];
            counts_.reset(num_visits);
            for (const VisitBlock& block : query_.blocks_) {
                const std::uint64_t* visits = block.visits.get();
                for (std::size_t i = block.begins[part]; i < block.begins[part + 1]; ++i) counts_.add(visits[i], 1);
            }
            if (query_.entries_.size() == 1) {
                for (std::size_t i = 0; i < counts_.size(); ++i) rank(counts_.key(i), summand_of(counts_.sum(i)));
                return;
            }
            sums_.reset(counts_.size());
            for (std::size_t i = 0; i < counts_.size(); ++i) {
                sums_.add(counts_.key(i) & 0xFFFFFFFF, summand_of(counts_.sum(i)));
            }
            for (std::size_t i = 0; i < sums_.size(); ++i) rank(sums_.key(i), sums_.sum(i));
        }

        std::vector<std::uint64_t> take() { return best_.take(); }

    private:
        void rank(std::uint64_t item, std::uint64_t sum) {
            const std::uint64_t rank = rank_of(score_of(sum), static_cast<std::uint32_t>(item));
            if (rank >= bar_ || query_.is_query_item(static_cast<std::uint32_t>(item))) return;
            if (best_.push(rank)) bar_ = best_.bar();
        }

        std::uint64_t summand_of(std::uint32_t visits) const {
            if (!query_.request_.boost) return visits;
            return static_cast<std::uint64_t>(std::sqrt(static_cast<double>(visits)) * root_unit);
        }

        float score_of(std::uint64_t sum) const {
            if (!query_.request_.boost) return static_cast<float>(sum);
            const double root = static_cast<double>(sum) / root_unit;
            return static_cast<float>(root * root);
        }

        const QueryWalk& query_;
        SumByKey<std::uint32_t> counts_;  // by visit
        SumByKey<std::uint64_t> sums_;    // by item
        BoundedTopK<std::uint64_t> best_;
        std::uint64_t bar_ = ~std::uint64_t{0};
    };

    bool is_query_item(std::uint32_t item) const {
        const auto at = std::lower_bound(entries_.begin(), entries_.end(), item,
                                         [](const Entry& entry, std::uint32_t id) { return entry.item < id; });
        return at != entries_.end() && at->item == item;
    }

    const WalkRequest& request_;
    const std::size_t num_threads_;
    const int part_bits_;
    std::vector<Entry> entries_;
    std::vector<SumByKey<std::uint32_t>> high_counts_;  // by entry and item, with an early stop
    std::vector<Walker> walkers_;
    std::vector<VisitBlock> blocks_;
};

// The largest degree if a query has several items: the steps of a single one are all of them.
std::uint64_t find_max_degree(const WalkRequest& request) {
    bool needed = false;
    for (std::size_t q = 0; q < request.num_queries; ++q) {
        needed |= request.offsets[q + 1] - request.offsets[q] > 1;
    }
    if (!needed || request.max_degree > 0) return request.max_degree;
    std::uint64_t largest = 0;
    for (std::size_t row = 0; row < request.items.num_rows; ++row) {
        largest = std::max(largest, degree_of(request.items, row, "item_offsets"));
    }
    return largest;
}

}  // namespace

void walk(const WalkRequest& request, float* scores, std::int64_t* items, std::int64_t* steps_taken) {
    require_ascending(request);
    const std::uint64_t max_degree = find_max_degree(request);
    const std::size_t at_once = std::max<std::size_t>(1, std::min(request.num_queries, request.num_threads));
    parallel_for(request.num_queries, at_once, [&](std::size_t q) {
        QueryWalk query(request, max_degree, q, request.num_threads / at_once);
        const std::vector<std::uint64_t> best = query.run();
        for (std::size_t i = 0; i < request.k; ++i) {
            scores[q * request.k + i] = i < best.size() ? score_of_rank(best[i]) : 0.0F;
            items[q * request.k + i] = i < best.size() ? static_cast<std::int64_t>(item_of_rank(best[i])) : -1;
        }
        steps_taken[q] = static_cast<std::int64_t>(query.steps_taken());
    });
}

}  // namespace bowerbird
