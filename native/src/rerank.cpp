// The order of work: a query's candidates are checked and packed, then scored some dozens at a time, and those that
// beat the bar of the top-k enter it while their scores are in the cache. The gather is the floor: one core has room
// for a few dozen cache lines on their way, 4 to 5 ns each where it was measured, so whole rows are prefetched some KiB
// ahead, across the end of a list into the next query's too.
#include "bowerbird/rerank.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "parallel.hpp"
#include "rerank_loops.hpp"
#include "topk.hpp"

namespace bowerbird {
namespace {

constexpr std::size_t chunk_candidates = 64;  // scored in one call of the loop, while the next ones are on their way
constexpr std::size_t ahead_bytes = 16 * 1024;  // measured: best of 2 to 32 KiB on Sapphire Rapids, by a little
constexpr std::size_t max_ahead = 128;          // rows
constexpr std::size_t min_slice = 4096;        // candidates; a smaller share costs more in threads than it saves
constexpr std::size_t max_task_queries = 16;

float rank_of(Key key) {
    const auto bits = static_cast<std::uint32_t>(key >> id_bits);
    return std::bit_cast<float>(bits >> 31 != 0 ? bits : ~bits & 0x7FFFFFFFU);
}

std::size_t row_bytes(const RerankRequest& request) {
    switch (request.row_type) {
        case RowType::float32: return request.dimension * 4;
        case RowType::float16:
        case RowType::bfloat16: return request.dimension * 2;
        case RowType::int8: break;
    }
    return request.dimension;
}

// Candidates of one query.
struct Slice {
    std::size_t query;
    const std::int64_t* begin;
    const std::int64_t* end;
};

// How the work is cut: by queries, and these into slices where they are fewer than threads.
struct Plan {
    std::size_t slices_a_query;
    std::size_t slices_a_task;
    std::size_t slices;

    explicit Plan(const RerankRequest& request) {
        const std::size_t queries = std::max<std::size_t>(request.num_queries, 1);
        const std::size_t list =
            request.offsets == nullptr ? request.num_candidates : request.num_candidates / queries;
        const std::size_t wanted = (request.num_threads + queries - 1) / queries;
        slices_a_query = std::clamp<std::size_t>(list / min_slice, 1, wanted);
        slices = request.num_queries * slices_a_query;
        slices_a_task = std::clamp<std::size_t>(slices / (4 * request.num_threads), 1, max_task_queries);
    }
};

Slice slice_at(const RerankRequest& request, const Plan& plan, std::size_t slice) {
    const std::size_t q = slice / plan.slices_a_query, part = slice % plan.slices_a_query;
    const std::int64_t* list = request.candidates;
    std::size_t size = request.num_candidates;
    if (request.offsets == nullptr) {
        list += q * size;
    } else {
        list += request.offsets[q];
        size = static_cast<std::size_t>(request.offsets[q + 1] - request.offsets[q]);
    }
    return {q, list + size * part / plan.slices_a_query, list + size * (part + 1) / plan.slices_a_query};
}

// Scores slices one after another, with one set of buffers.
class Scorer {
public:
    explicit Scorer(const RerankRequest& request)
        : request_(request),
          score_(loops_.score[static_cast<int>(request.row_type)][static_cast<int>(request.metric)]),
          ahead_(std::clamp(ahead_bytes / row_bytes(request) + 1, min_ahead, max_ahead)),
          takes_digits_(request.row_type == RowType::int8 && request.metric == Metric::inner_product &&
                        request.dimension <= Digits::max_dimension && loops_.split != nullptr),
          query_((request.dimension + query_padding - 1) / query_padding * query_padding) {}

    // The keys of the best candidates of a slice, ascending. `next` is the slice that comes after it, or null.
    std::vector<Key> best(const Slice& slice, const Slice* next) {
        set_query(slice.query);
        pack(slice, next);
        BoundedTopK<Key> top(std::max<std::size_t>(1, std::min(request_.k, num_ids_)));
        float bar = -std::numeric_limits<float>::infinity();
        for (std::size_t begin = 0; begin < num_ids_; begin += chunk_candidates) {
            const std::size_t count = std::min(chunk_candidates, num_ids_ - begin);
            const std::int64_t* ids = ids_.data() + begin;
            rank(ids, count);
            const std::size_t hits = loops_.keys(ranks_, ids, count, bar, top.room(count));
            if (hits == refused) refuse_row(ids);
            if (top.add(hits)) bar = rank_of(top.bar());
        }
        return top.take();
    }

private:
    void set_query(std::size_t q) {
        const float* query = request_.queries + q * request_.dimension;
        std::copy(query, query + request_.dimension, query_.begin());
        if (request_.metric == Metric::cosine) {
            double square = 0.0;
            for (std::size_t i = 0; i < request_.dimension; ++i) square += static_cast<double>(query[i]) * query[i];
            query_length_ = std::sqrt(square);
        }
        has_digits_ = takes_digits_ && loops_.split(query_.data(), request_.dimension, digits_);
    }

    bool is_row(std::int64_t id) const { return static_cast<std::uint64_t>(id) < request_.num_rows; }

    // The slice's ids without the gaps, then `ahead_` that come next.
    void pack(const Slice& slice, const Slice* next) {
        ids_.resize(static_cast<std::size_t>(slice.end - slice.begin) + ahead_);
        num_ids_ = loops_.pack(slice.begin, static_cast<std::size_t>(slice.end - slice.begin), request_.num_rows,
                               ids_.data());
        if (num_ids_ == refused) refuse_id(slice.begin);
        std::size_t filled = num_ids_;
        const std::size_t full = num_ids_ + ahead_;
        if (next != nullptr) {
            for (const std::int64_t* at = next->begin; at != next->end && filled < full; ++at) {
                if (is_row(*at)) ids_[filled++] = *at;
            }
        }
        while (filled < full && filled > 0) ids_[filled] = ids_[filled - 1], ++filled;
    }

    // ranks_[i] of the rows ids[i]: greater is better.
    void rank(const std::int64_t* ids, std::size_t count) {
        const Digits* digits = has_digits_ ? &digits_ : nullptr;
        score_({request_.rows, request_.scales, request_.dimension, query_.data(), digits, ids, count, ahead_}, ranks_,
               squares_);
        if (request_.metric == Metric::l2) {
            for (std::size_t i = 0; i < count; ++i) ranks_[i] = -ranks_[i];
        }
        if (request_.metric == Metric::cosine) {
            for (std::size_t i = 0; i < count; ++i) {
                const double scale = request_.scales == nullptr ? 1.0 : request_.scales[ids[i]];
                ranks_[i] = cosine(ranks_[i] * scale, squares_[i] * (scale * scale));
            }
        }
    }

    float cosine(double product, double square) const {
        if (!std::isfinite(square)) return std::numeric_limits<float>::quiet_NaN();
        const double lengths = query_length_ * std::sqrt(square);
        return lengths == 0.0 ? 0.0F : static_cast<float>(product / lengths);
    }

    [[noreturn]] void refuse_id(const std::int64_t* ids) const {
        while (is_row(*ids) || *ids == -1) ++ids;
        throw std::invalid_argument("candidates: expected -1 or a row id below " + std::to_string(request_.num_rows) +
                                    ", got " + std::to_string(*ids));
    }

    [[noreturn]] void refuse_row(const std::int64_t* ids) const {
        const float* rank = ranks_;
        while (!std::isnan(*rank)) ++rank;
        const std::int64_t id = ids[rank - ranks_];
        throw std::invalid_argument((request_.scales == nullptr ? "rows: row " : "scales: row ") + std::to_string(id) +
                                    " has a value that is not finite: its score is not a number");
    }

    const RerankRequest& request_;
    const RerankLoops& loops_ = rerank_loops();
    const ScoreLoop score_;
    const std::size_t ahead_;
    const bool takes_digits_;
    std::vector<float> query_;
    Digits digits_;
    bool has_digits_ = false;
    double query_length_ = 0.0;
    std::vector<std::int64_t> ids_;
    std::size_t num_ids_ = 0;
    float ranks_[chunk_candidates];
    float squares_[chunk_candidates];
};

void write(const RerankRequest& request, const std::vector<Key>& keys, float* scores, std::int64_t* indices) {
    const float sign = request.metric == Metric::l2 ? -1.0F : 1.0F;
    for (std::size_t i = 0; i < keys.size(); ++i) {
        scores[i] = sign * rank_of(keys[i]);
        indices[i] = static_cast<std::int64_t>(keys[i] & 0xFFFFFFFFU);
    }
    std::fill(scores + keys.size(), scores + request.k, -sign * std::numeric_limits<float>::infinity());
    std::fill(indices + keys.size(), indices + request.k, -1);
}

// The best of all slices of a query, ascending.
std::vector<Key> merged(std::vector<Key>* slices, std::size_t count, std::size_t k) {
    std::vector<Key> keys = std::move(slices[0]);
    for (std::size_t i = 1; i < count; ++i) {
        const auto middle = static_cast<std::ptrdiff_t>(keys.size());
        keys.insert(keys.end(), slices[i].begin(), slices[i].end());
        std::inplace_merge(keys.begin(), keys.begin() + middle, keys.end());
    }
    keys.resize(std::min(keys.size(), k));
    return keys;
}

}  // namespace

void rerank(const RerankRequest& request, float* scores, std::int64_t* indices) {
    const Plan plan(request);
    std::vector<std::vector<Key>> best(plan.slices);
    const std::size_t tasks = (plan.slices + plan.slices_a_task - 1) / plan.slices_a_task;
    parallel_for(tasks, request.num_threads, [&](std::size_t task) {
        Scorer scorer(request);
        const std::size_t first = task * plan.slices_a_task, last = std::min(first + plan.slices_a_task, plan.slices);
        Slice slice = slice_at(request, plan, first);
        for (std::size_t i = first; i < last; ++i) {
            const Slice next = i + 1 < last ? slice_at(request, plan, i + 1) : slice;
            best[i] = scorer.best(slice, i + 1 < last ? &next : nullptr);
            slice = next;
        }
    });
    for (std::size_t q = 0; q < request.num_queries; ++q) {
        const std::vector<Key> keys = merged(&best[q * plan.slices_a_query], plan.slices_a_query, request.k);
        write(request, keys, scores + q * request.k, indices + q * request.k);
    }
}

}  // namespace bowerbird
