// The scores are read once, and that is the floor: B * A * C * 4 bytes. One comparison a register finds what is not
// below the threshold, NaN included. The threshold rises as soon as more pairs are found than there can be candidates.
// Boxes are decoded one by one, best first, until there are enough detections.
#include "bowerbird/detection_postprocess.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <vector>

#include "detection_postprocess_loops.hpp"
#include "parallel.hpp"
#include "ranking.hpp"
#include "suppression.hpp"

namespace bowerbird {
namespace {

constexpr std::size_t block_scores = 4096;   // 16 KB: they and their positions fit the first-level cache
constexpr std::size_t boxes_ahead = 8;
constexpr std::size_t candidate_slack = 8192;  // many are sorted a few times, not a few often

// The best pairs so far.
class Candidates {
public:
    Candidates(std::size_t most, float limit) : most_(most), capacity_(most + std::max(most, candidate_slack)), limit_(limit) {}

    // Lower scores cannot become candidates any more.
    float limit() const { return limit_; }

    // Pairs come by ascending index.
    void push(float score, std::size_t pair) {
        if (keys_.size() == capacity_) {
            cut();
            limit_ = score_of(keys_.back());
        }
        keys_.push_back(rank_key(score, pair));
    }

    // Best first.
    std::vector<RankKey> take() {
        cut();
        return std::move(keys_);
    }

private:
    // The sort is stable, and what is left from before lies in order in front of what came later: so ties stay in order.
    void cut() {
        sort_best_first(keys_);
        keys_.resize(std::min(keys_.size(), most_));
    }

    std::size_t most_, capacity_;
    float limit_;
    std::vector<RankKey> keys_;
};

// The candidates of one image, best first; the index of a key is that of the pair.
std::vector<RankKey> select(const DetectionRequest& request, const float* scores) {
    const std::size_t count = request.num_anchors * request.num_classes;
    Candidates best(request.max_candidates, request.min_score);
    std::array<std::uint32_t, block_scores> positions;
    for (std::size_t first = 0; first < count; first += block_scores) {
        const std::size_t length = std::min(block_scores, count - first);
        const std::size_t hits = detection_loops().not_below(scores + first, length, best.limit(), positions.data());
        for (std::size_t hit = 0; hit < hits; ++hit) {
            const std::size_t pair = first + positions[hit];
            if (std::isnan(scores[pair])) throw std::invalid_argument("scores: expected no NaN");
            if (request.wanted != nullptr && request.wanted[pair % request.num_classes] == 0) continue;
            best.push(scores[pair], pair);
        }
    }
    return best.take();
}

bool all_finite(const float* values, std::size_t count) {
    std::uint32_t bad = 0;
    for (std::size_t i = 0; i < count; ++i) {
        bad |= static_cast<std::uint32_t>((std::bit_cast<std::int32_t>(values[i]) & 0x7FFFFFFF) > 0x7F7FFFFF);
    }
    return bad == 0;
}

constexpr float least_exponent = -88.0F;  // exp of it, and of what is below, is taken for 0

// values[i] = exp(values[i]) to 2 ulp, for least_exponent <= values[i] <= 0: exp(r) * 2^n with |r| <= log(2) / 2, by
// its Taylor series. Without branches, so that the compiler takes several at once, and the same at every SIMD level.
void exponentiate(float* values, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        const float x = values[i];
        const auto n = static_cast<std::int32_t>(x * 1.44269504F - 0.5F);
        const auto whole = static_cast<float>(n);
        // log(2) in two parts: the first product is exact.
        const float r = x - whole * 0.693359375F + whole * 2.12194440e-4F;
        float sum = 1.0F / 5040.0F;
        sum = sum * r + 1.0F / 720.0F;
        sum = sum * r + 1.0F / 120.0F;
        sum = sum * r + 1.0F / 24.0F;
        sum = sum * r + 1.0F / 6.0F;
        sum = sum * r + 0.5F;
        sum = sum * r + 1.0F;
        sum = sum * r + 1.0F;
        values[i] = sum * std::bit_cast<float>((n + 127) << 23);
    }
}

// Decodes boxes of one image.
class Decoder {
public:
    Decoder(const DetectionRequest& request, const float* boxes)
        : request_(request), boxes_(boxes), weights_(4 * request.num_bins) {}

    // Ask for what the box of an anchor is made of: the scores have just passed through the caches.
    void prefetch(std::size_t anchor) const {
        const std::size_t numbers = 4 * request_.num_bins;
        for (std::size_t i = 0; i < numbers; i += 16) __builtin_prefetch(boxes_ + anchor * numbers + i);
    }

    // The box of an anchor; none if it is empty.
    std::optional<Box> operator()(std::size_t anchor) {
        const std::size_t bins = request_.num_bins;
        const float* raw = boxes_ + anchor * 4 * bins;
        if (!all_finite(raw, 4 * bins)) refuse(anchor);
        std::array<float, 4> corners = decoded(raw, anchor);
        if (!all_finite(corners.data(), 4)) refuse(anchor);
        if (request_.clip) clip(corners);
        if (!(corners[0] < corners[2] && corners[1] < corners[3])) return std::nullopt;
        return box_of(corners.data());
    }

private:
    [[noreturn]] static void refuse(std::size_t anchor) {
        throw std::invalid_argument("boxes: expected finite numbers, also once decoded; anchor " +
                                    std::to_string(anchor) + " has others");
    }

    std::array<float, 4> decoded(const float* raw, std::size_t anchor) {
        switch (request_.decoding) {
            case Decoding::deltas: return from_deltas(raw, request_.anchors + anchor * 4);
            case Decoding::distances: return from_distances(raw, request_.anchors + anchor * 3);
            case Decoding::none: break;
        }
        return {raw[0], raw[1], raw[2], raw[3]};
    }

    std::array<float, 4> from_deltas(const float* raw, const float* anchor) const {
        std::array<float, 4> corners{};
        for (std::size_t axis = 0; axis < 2; ++axis) {
            const float size = anchor[axis + 2] - anchor[axis];
            const float center = anchor[axis] + 0.5F * size;
            const float moved = raw[axis] / request_.delta_weights[axis] * size + center;
            const float scale = std::min(raw[axis + 2] / request_.delta_weights[axis + 2], max_log_scale);
            const float half = 0.5F * (static_cast<float>(std::exp(static_cast<double>(scale))) * size);
            corners[axis] = moved - half;
            corners[axis + 2] = moved + half;
        }
        return corners;
    }

    std::array<float, 4> from_distances(const float* raw, const float* anchor) {
        const std::array<float, 4> sides =
            request_.num_bins == 1 ? std::array<float, 4>{raw[0], raw[1], raw[2], raw[3]} : expectations(raw);
        const float stride = anchor[2];
        return {anchor[0] - sides[0] * stride, anchor[1] - sides[1] * stride, anchor[0] + sides[2] * stride,
                anchor[1] + sides[3] * stride};
    }

    // The mean bin of each side under the softmax of its logits.
    std::array<float, 4> expectations(const float* logits) {
        const std::size_t bins = request_.num_bins;
        for (std::size_t side = 0; side < 4; ++side) {
            const float* own = logits + side * bins;
            const float top = *std::max_element(own, own + bins);
            for (std::size_t bin = 0; bin < bins; ++bin) {
                weights_[side * bins + bin] = std::max(own[bin] - top, least_exponent);
            }
        }
        exponentiate(weights_.data(), 4 * bins);
        std::array<float, 4> means{};
        for (std::size_t side = 0; side < 4; ++side) {
            float sum = 0.0F, weighted = 0.0F;
            for (std::size_t bin = 0; bin < bins; ++bin) {
                sum += weights_[side * bins + bin];
                weighted += weights_[side * bins + bin] * static_cast<float>(bin);
            }
            means[side] = weighted / sum;
        }
        return means;
    }

    void clip(std::array<float, 4>& corners) const {
        for (std::size_t i = 0; i < 4; ++i) {
            corners[i] = std::clamp(corners[i], 0.0F, i % 2 == 0 ? request_.image_width : request_.image_height);
        }
    }

    const DetectionRequest& request_;
    const float* boxes_;
    std::vector<float> weights_;  // of the bins of an anchor
};

float activated(const DetectionRequest& request, float score) {
    if (request.activation == Activation::none) return score;
    return static_cast<float>(1.0 / (1.0 + std::exp(-static_cast<double>(score))));
}

// The detections of one image, and where they go.
class Image {
public:
    Image(const DetectionRequest& request, const Detections& out, std::size_t image)
        : request_(request),
          scores_(request.scores + image * request.num_anchors * request.num_classes),
          decode_(request, request.boxes + image * request.num_anchors * 4 * request.num_bins),
          boxes_out_(out.boxes + image * request.max_detections * 4),
          scores_out_(out.scores + image * request.max_detections),
          classes_out_(out.classes + image * request.max_detections) {}

    std::size_t fill() {
        const std::vector<RankKey> candidates = select(request_, scores_);
        if (!candidates.empty()) request_.soft_sigma > 0.0F ? suppress_softly(candidates) : suppress(candidates);
        std::fill(boxes_out_ + count_ * 4, boxes_out_ + request_.max_detections * 4, 0.0F);
        std::fill(scores_out_ + count_, scores_out_ + request_.max_detections, 0.0F);
        std::fill(classes_out_ + count_, classes_out_ + request_.max_detections, -1);
        return count_;
    }

private:
    std::uint32_t class_of(RankKey key) const {
        return index_of(key) % static_cast<std::uint32_t>(request_.num_classes);
    }

    std::size_t anchor_of(RankKey key) const { return index_of(key) / request_.num_classes; }

    // The box of a candidate, if it is not empty. Those of the next ones are on their way meanwhile.
    std::optional<Box> box_of_candidate(const std::vector<RankKey>& candidates, std::size_t i) {
        if (i + boxes_ahead < candidates.size()) decode_.prefetch(anchor_of(candidates[i + boxes_ahead]));
        return decode_(anchor_of(candidates[i]));
    }

    void suppress(const std::vector<RankKey>& candidates) {
        KeptBoxes kept(request_.num_classes, request_.max_iou);
        for (std::size_t i = 0; i < candidates.size() && count_ < request_.max_detections; ++i) {
            const std::optional<Box> box = box_of_candidate(candidates, i);
            const std::uint32_t class_number = class_of(candidates[i]);
            if (box && kept.admit(class_number, *box)) {
                put(*box, activated(request_, score_of(candidates[i])), class_number);
            }
        }
    }

    void suppress_softly(const std::vector<RankKey>& candidates) {
        std::vector<Box> boxes;
        std::vector<float> scores;
        Groups classes{{}, std::vector<std::uint32_t>(request_.num_classes)};
        for (std::size_t i = 0; i < candidates.size(); ++i) {
            const std::optional<Box> box = box_of_candidate(candidates, i);
            if (!box) continue;
            boxes.push_back(*box);
            scores.push_back(activated(request_, score_of(candidates[i])));
            classes.of_box.push_back(class_of(candidates[i]));
        }
        if (boxes.empty()) return;
        const SoftDecay decay{Decay::gaussian, request_.soft_sigma, request_.max_iou, request_.soft_min_score};
        for (const RankKey picked : soft_suppress(boxes, scores, classes, decay)) {
            if (count_ == request_.max_detections) return;
            put(boxes[index_of(picked)], score_of(picked), classes.of(index_of(picked)));
        }
    }

    void put(const Box& box, float score, std::uint32_t class_number) {
        const std::array<float, 4> corners{box.x_min, box.y_min, box.x_max, box.y_max};
        std::copy(corners.begin(), corners.end(), boxes_out_ + count_ * 4);
        scores_out_[count_] = score;
        classes_out_[count_] = class_number;
        ++count_;
    }

    const DetectionRequest& request_;
    const float* scores_;
    Decoder decode_;
    float* boxes_out_;
    float* scores_out_;
    std::int64_t* classes_out_;
    std::size_t count_ = 0;
};

}  // namespace

void detection_postprocess(const DetectionRequest& request, const Detections& detections) {
    parallel_for(request.num_images, request.num_threads, [&](std::size_t image) {
        detections.counts[image] = static_cast<std::int32_t>(Image(request, detections, image).fill());
    });
}

}  // namespace bowerbird
