// The inner loops of nms, once a SIMD level.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch.hpp"

namespace bowerbird {

struct Box {
    float x_min, y_min, x_max, y_max, area;
};

constexpr std::size_t block_boxes = 16;  // lanes of the widest registers
constexpr std::uint32_t no_block = 0xFFFFFFFF;

// Kept boxes as columns, in a list of blocks. Unused places hold empty boxes, which overlap nothing.
struct alignas(64) KeptBlock {
    float x_min[block_boxes];
    float y_min[block_boxes];
    float x_max[block_boxes];
    float y_max[block_boxes];
    float area[block_boxes];
    std::uint32_t count;
    std::uint32_t next;  // position of the next block of the list, or no_block
};

// Any number of boxes as columns, readable up to a multiple of 16.
struct BoxColumns {
    float* x_min;
    float* y_min;
    float* x_max;
    float* y_max;
    float* area;
};

struct NmsLoops {
    // True if a box in one of the lists has inter > max_iou * union with the box. A list is the position of its first
    // block, or no_block.
    bool (*overlaps_any)(const KeptBlock* blocks, const std::uint32_t* lists, std::size_t num_lists, const Box& box,
                         float max_iou);
    // The IoU of each of `count` boxes with the box, 0 where they share nothing; written up to a multiple of 16.
    void (*overlaps)(const BoxColumns& boxes, std::size_t count, const Box& box, float* iou);
};

BOWERBIRD_LOOPS(NmsLoops, nms_loops)

}  // namespace bowerbird
