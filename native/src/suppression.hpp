// Suppression within groups of boxes (classes), for callers that have ranked them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bowerbird/nms.hpp"
#include "nms_loops.hpp"
#include "ranking.hpp"

namespace bowerbird {

// The box with these corners, xyxy; inverted ones have no area.
Box box_of(const float* corners);

// Which group each box is in; groups are numbered from 0.
struct Groups {
    std::vector<std::uint32_t> of_box;  // empty: all in group 0
    std::vector<std::uint32_t> sizes;

    std::uint32_t of(std::size_t box) const { return of_box.empty() ? 0 : of_box[box]; }
};

// Where most boxes lie along an axis, by x_min or y_min; those beyond count as lying at its end.
struct Range {
    double low = 0.0, high = 0.0;
};

// Greedy suppression: boxes come best first, and each is tested against those of its group kept so far.
//
// The kept boxes of a large group lie in a grid, by x_min and y_min. Along x, a box at [p, p + w] and one at [a, b] can
// have an IoU above t only if p - w (1 / t - 1) < a < p + w (1 - t): along one axis the IoU is no less, so the shared
// length is above t w, hence a < p + w - t w; and it is above t times the union, which has at least the length
// p + w - a where a < p. Likewise along y. So only the cells of that stretch are looked at, the box's own first: there
// the one that suppresses it mostly lies.
class KeptBoxes {
public:
    // One cell a group.
    KeptBoxes(std::size_t num_groups, float max_iou);

    // As many cells as a group of that size pays for.
    KeptBoxes(const std::vector<std::uint32_t>& group_sizes, float max_iou, const Range& x, const Range& y);

    // False if a kept box of the group suppresses this one; true, and it is kept, otherwise.
    bool admit(std::uint32_t group, const Box& box);

private:
    // The cells of a group: side x side lists of blocks.
    struct Grid {
        std::uint32_t first, side;
    };

    std::uint32_t cell_of(const Grid& grid, double x, double y) const;
    bool suppressed(const Grid& grid, std::uint32_t home, const Box& box) const;
    bool overlaps_any(std::uint32_t first_cell, std::uint32_t num_cells, const Box& box) const;
    void add(std::uint32_t cell, const Box& box);

    float max_iou_;
    double low_x_, low_y_, sides_x_, sides_y_;  // sides of the grid per unit
    double reach_back_, reach_on_;              // in sides of the box
    std::vector<Grid> groups_;
    std::vector<std::uint32_t> cells_;  // first blocks
    std::vector<KeptBlock> blocks_;
    decltype(NmsLoops::overlaps_any) loop_;
};

struct SoftDecay {
    Decay decay;
    float sigma, max_iou, min_score;
};

// Soft-NMS of boxes (given by position, which decides ties): decayed score and position of those picked, in order.
std::vector<RankKey> soft_suppress(const std::vector<Box>& boxes, const std::vector<float>& scores,
                                   const Groups& groups, const SoftDecay& decay);

}  // namespace bowerbird
