#include "suppression.hpp"

#include <algorithm>
#include <cmath>

namespace bowerbird {
namespace {

constexpr double boxes_a_cell = 100.0;  // before suppression; of fifty, three or four are kept, and a block holds 16
constexpr double max_side = 128.0;
constexpr float least_gridded_iou = 1e-3F;  // below, the reach is many boxes wide
// The loops round each operation by 2^-24 of its result, which moves an IoU by less than this share as long as nothing
// underflows.
constexpr double rounding = 1e-5;
constexpr float least_gridded_area = 1e-30F;

}  // namespace

Box box_of(const float* corners) {
    const float width = std::max(corners[2] - corners[0], 0.0F);
    const float height = std::max(corners[3] - corners[1], 0.0F);
    return {corners[0], corners[1], corners[2], corners[3], width * height};
}

KeptBoxes::KeptBoxes(std::size_t num_groups, float max_iou)
    : KeptBoxes(std::vector<std::uint32_t>(num_groups), max_iou, {}, {}) {}

KeptBoxes::KeptBoxes(const std::vector<std::uint32_t>& group_sizes, float max_iou, const Range& x, const Range& y)
    : max_iou_(max_iou), low_x_(x.low), low_y_(y.low), loop_(nms_loops().overlaps_any) {
    const double width = x.high - x.low, height = y.high - y.low;
    sides_x_ = width > 0.0 ? 1.0 / width : 0.0;
    sides_y_ = height > 0.0 ? 1.0 / height : 0.0;
    const double bar = (1.0 - rounding) * max_iou;
    reach_back_ = 1.0 / bar - 1.0;
    reach_on_ = 1.0 - bar;
    groups_.reserve(group_sizes.size());
    std::uint32_t cells = 0;
    for (const std::uint32_t size : group_sizes) {
        const double side = std::clamp(std::sqrt(size / boxes_a_cell), 1.0, max_side);
        groups_.push_back({cells, max_iou < least_gridded_iou ? 1 : static_cast<std::uint32_t>(side)});
        cells += groups_.back().side * groups_.back().side;
    }
    cells_.assign(cells, no_block);
}

// Rising with x and with y, whatever the rounding: that is what the reach needs.
std::uint32_t KeptBoxes::cell_of(const Grid& grid, double x, double y) const {
    const double last = grid.side - 1;
    const auto column = static_cast<std::uint32_t>(std::clamp((x - low_x_) * sides_x_ * grid.side, 0.0, last));
    const auto row = static_cast<std::uint32_t>(std::clamp((y - low_y_) * sides_y_ * grid.side, 0.0, last));
    return grid.first + row * grid.side + column;
}

bool KeptBoxes::overlaps_any(std::uint32_t first_cell, std::uint32_t num_cells, const Box& box) const {
    return loop_(blocks_.data(), cells_.data() + first_cell, num_cells, box, max_iou_);
}

bool KeptBoxes::suppressed(const Grid& grid, std::uint32_t home, const Box& box) const {
    if (overlaps_any(home, 1, box)) return true;
    if (grid.side == 1) return false;
    if (box.area < least_gridded_area) return overlaps_any(grid.first, grid.side * grid.side, box);
    const double x = box.x_min, y = box.y_min, width = box.x_max - x, height = box.y_max - y;
    const std::uint32_t first = cell_of(grid, x - reach_back_ * width, y - reach_back_ * height);
    const std::uint32_t last = cell_of(grid, x + reach_on_ * width, y + reach_on_ * height);
    const std::uint32_t columns = (last - grid.first) % grid.side - (first - grid.first) % grid.side + 1;
    for (std::uint32_t cell = first; cell <= last; cell += grid.side) {
        if (overlaps_any(cell, columns, box)) return true;
    }
    return false;
}

bool KeptBoxes::admit(std::uint32_t group, const Box& box) {
    if (!(box.area > 0.0F)) return true;  // IoU 0 with every box
    const Grid& grid = groups_[group];
    const std::uint32_t home = grid.side == 1 ? grid.first : cell_of(grid, box.x_min, box.y_min);
    if (suppressed(grid, home, box)) return false;
    add(home, box);
    return true;
}

void KeptBoxes::add(std::uint32_t cell, const Box& box) {
    if (cells_[cell] == no_block || blocks_[cells_[cell]].count == block_boxes) {
        blocks_.push_back({});
        blocks_.back().next = cells_[cell];
        cells_[cell] = static_cast<std::uint32_t>(blocks_.size() - 1);
    }
    KeptBlock& block = blocks_[cells_[cell]];
    const std::uint32_t i = block.count++;
    block.x_min[i] = box.x_min;
    block.y_min[i] = box.y_min;
    block.x_max[i] = box.x_max;
    block.y_max[i] = box.y_max;
    block.area[i] = box.area;
}

namespace {

constexpr float gone = -1.0F;  // below every min_score

// The boxes of one group. One that was picked or has fallen below min_score gets the score `gone` and no area, so that
// nothing decays it.
class SoftGroup {
public:
    SoftGroup(const std::vector<Box>& boxes, const std::vector<float>& scores,
              const std::vector<std::uint32_t>& members, const SoftDecay& decay)
        : decay_(decay), members_(members), stride_((members.size() + block_boxes - 1) / block_boxes * block_boxes) {
        values_.resize(6 * stride_);
        scores_.resize(members.size());
        float* values = values_.data();
        columns_ = {values, values + stride_, values + 2 * stride_, values + 3 * stride_, values + 4 * stride_};
        for (std::size_t i = 0; i < members.size(); ++i) {
            put(i, boxes[members[i]]);
            set_score(i, scores[members[i]]);
        }
    }

    // Pick until nothing is left; append what was picked.
    void pick_all(std::vector<RankKey>& picked) {
        float* iou = values_.data() + 5 * stride_;
        for (;;) {
            const auto best = std::max_element(scores_.begin(), scores_.end());  // the first of equal ones
            if (best == scores_.end() || *best == gone) return;
            const auto i = static_cast<std::size_t>(best - scores_.begin());
            const Box box{columns_.x_min[i], columns_.y_min[i], columns_.x_max[i], columns_.y_max[i], columns_.area[i]};
            picked.push_back(rank_key(*best, members_[i]));
            set_score(i, gone);
            nms_loops().overlaps(columns_, members_.size(), box, iou);
            for (std::size_t j = 0; j < members_.size(); ++j) {
                if (iou[j] > 0.0F) set_score(j, scores_[j] * factor(iou[j]));
            }
        }
    }

private:
    void put(std::size_t i, const Box& box) {
        columns_.x_min[i] = box.x_min;
        columns_.y_min[i] = box.y_min;
        columns_.x_max[i] = box.x_max;
        columns_.y_max[i] = box.y_max;
        columns_.area[i] = box.area;
    }

    void set_score(std::size_t i, float score) {
        scores_[i] = score >= decay_.min_score ? score : gone;
        if (scores_[i] == gone) put(i, {});
    }

    float factor(float iou) const {
        if (decay_.decay == Decay::linear) return iou > decay_.max_iou ? 1.0F - iou : 1.0F;
        return static_cast<float>(std::exp(static_cast<double>(-(iou * iou) / decay_.sigma)));
    }

    const SoftDecay& decay_;
    const std::vector<std::uint32_t>& members_;
    std::size_t stride_;
    std::vector<float> values_, scores_;
    BoxColumns columns_{};
};

}  // namespace

// Groups do not touch each other, and the scores picked in one never rise; so picking from all at once is picking from
// each alone, and merging by score.
std::vector<RankKey> soft_suppress(const std::vector<Box>& boxes, const std::vector<float>& scores,
                                   const Groups& groups, const SoftDecay& decay) {
    std::vector<std::vector<std::uint32_t>> members(groups.sizes.size());
    for (std::size_t i = 0; i < boxes.size(); ++i) members[groups.of(i)].push_back(static_cast<std::uint32_t>(i));
    std::vector<RankKey> picked;
    for (const std::vector<std::uint32_t>& group : members) SoftGroup(boxes, scores, group, decay).pick_all(picked);
    std::sort(picked.begin(), picked.end());
    return picked;
}

}  // namespace bowerbird
