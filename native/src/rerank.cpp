#include "bowerbird/rerank.hpp"

#include <algorithm>
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

constexpr std::size_t chunk_candidates = 256;  // scored in one kernel call; their scores stay in the cache
constexpr std::size_t query_padding = 64;      // values; the loops read the query in whole vectors

struct Scored {
    float score;
    std::int64_t index;

    // Better first: the higher score, then the lower index.
    bool operator<(const Scored& other) const {
        return score != other.score ? score > other.score : index < other.index;
    }
};

class QueryRerank {
public:
    QueryRerank(const RerankRequest& request, std::size_t q)
        : request_(request),
          dot_(request.row_type == RowType::float32 ? rerank_loops().dot_float32 : rerank_loops().dot_float16),
          candidates_(request.candidates + q * request.num_candidates),
          query_((request.dimension + query_padding - 1) / query_padding * query_padding),
          best_(std::max<std::size_t>(1, std::min(request.k, request.num_candidates))) {
        const float* query = request.queries + q * request.dimension;
        std::copy(query, query + request.dimension, query_.begin());
        ids_.reserve(chunk_candidates);
    }

    std::vector<Scored> run() {
        for (std::size_t i = 0; i < request_.num_candidates; ++i) {
            const std::int64_t id = candidates_[i];
            if (id == -1) continue;
            if (id < 0 || static_cast<std::size_t>(id) >= request_.num_rows) {
                throw std::invalid_argument("candidates: expected -1 or a row id below " +
                                            std::to_string(request_.num_rows) + ", got " + std::to_string(id));
            }
            ids_.push_back(id);
            if (ids_.size() == chunk_candidates) score_chunk();
        }
        score_chunk();
        return best_.take();
    }

private:
    void score_chunk() {
        float scores[chunk_candidates];
        dot_({request_.rows, request_.dimension, query_.data(), ids_.data(), ids_.size()}, scores);
        for (std::size_t i = 0; i < ids_.size(); ++i) {
            if (std::isnan(scores[i])) {
                throw std::invalid_argument("rows: row " + std::to_string(ids_[i]) +
                                            " has a value that is not finite: its score is not a number");
            }
            const Scored scored{scores[i], ids_[i]};
            if ((!has_bar_ || scored < best_.bar()) && best_.push(scored)) has_bar_ = true;
        }
        ids_.clear();
    }

    const RerankRequest& request_;
    void (*const dot_)(const DotTask&, float*);
    const std::int64_t* candidates_;
    std::vector<float> query_;
    std::vector<std::int64_t> ids_;
    BoundedTopK<Scored> best_;
    bool has_bar_ = false;
};

}  // namespace

void rerank(const RerankRequest& request, float* scores, std::int64_t* indices) {
    const bool narrow = request.row_type == RowType::bfloat16 || request.row_type == RowType::int8;
    if (narrow || request.offsets != nullptr || request.metric != Metric::inner_product) {
        throw std::invalid_argument("rerank: the host computes inner products of float rows and dense lists only");
    }
    parallel_for(request.num_queries, request.num_threads, [&](std::size_t q) {
        const std::vector<Scored> best = QueryRerank(request, q).run();
        float* score = scores + q * request.k;
        std::int64_t* index = indices + q * request.k;
        for (std::size_t i = 0; i < best.size(); ++i) {
            score[i] = best[i].score;
            index[i] = best[i].index;
        }
        std::fill(score + best.size(), score + request.k, -std::numeric_limits<float>::infinity());
        std::fill(index + best.size(), index + request.k, -1);
    });
}

}  // namespace bowerbird
