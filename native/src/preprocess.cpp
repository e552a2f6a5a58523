// Two passes, separable: rows first, then columns.
//
// The vertical pass reads bytes and blends them into a few float32 rows, one line a channel; the horizontal pass takes
// those from the cache, normalises, and writes into the output. In a reduction each row of the picture has a part in
// two rows of the output at most, so it is converted once and added to both, and what the second has by then is carried
// over (`Visit`). In an enlargement a row of the output is made of its own two.
//
// Floor, for 640 x 427 to 224 x 224 and sixteen lanes: 51 k registers of bytes, each one widened (a shuffle), converted
// and added twice: four instructions for two ports, 0.1 M cycles. The horizontal pass has half the rows left, and a
// shuffle and an addition for each of 38 k registers of outputs and taps: a third of that.
#include "bowerbird/preprocess.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "parallel.hpp"
#include "preprocess_loops.hpp"
#include "resize_filter.hpp"

namespace bowerbird {
namespace {

constexpr std::size_t band_rows = 8;  // output rows between the passes: their lines stay in the caches
constexpr std::size_t tasks_a_thread = 4;

// All that pictures of one size share.
struct Plan {
    Filter vertical, horizontal;
    bool carries;             // rows are visited once, for two rows of the output
    std::size_t left, right;  // columns that outputs are made of
    LaneSteps steps;
    std::size_t stride;  // of lines

    Plan(const Axes& axes, Resize resize, const PreprocessLoops& loops)
        : vertical(axes.vertical, resize),
          horizontal(axes.horizontal, resize),
          carries(vertical.touches_two()),
          left(horizontal.taps(0).first),
          right(horizontal.taps(horizontal.outputs() - 1).end),
          steps(horizontal, left, loops.shape),
          stride((right - left + line_alignment - 1) / line_alignment * line_alignment + line_padding) {}
};

// Rows [first, end) of the output of one picture.
class Strip {
public:
    Strip(const PreprocessRequest& request, std::size_t n, const Plan& plan, float* out)
        : request_(request), image_(request.images[n]), plan_(plan), out_(out) {
        const std::size_t size = 3 * (band_rows + 1) * plan.stride;
        memory_ = std::make_unique_for_overwrite<float[]>(size + line_alignment);
        void* aligned = memory_.get();
        std::size_t space = (size + line_alignment) * sizeof(float);
        lines_ = static_cast<float*>(std::align(line_alignment * sizeof(float), size * sizeof(float), aligned, space));
        carry_ = lines_ + 3 * band_rows * plan.stride;
        std::fill_n(carry_, 3 * plan.stride, 0.0F);
    }

    void fill(std::size_t first, std::size_t end) {
        visited_ = plan_.vertical.taps(first).first;
        for (std::size_t y = first; y < end; y += band_rows) {
            const std::size_t rows = std::min(band_rows, end - y);
            blend(y, rows);
            resample(y, rows);
        }
    }

private:
    void blend(std::size_t y, std::size_t rows) {
        visits_.clear();
        for (std::size_t r = 0; r < rows; ++r) counts_[r] = append_visits(y + r);
        preprocess_loops().blend({visits_.data(), counts_, rows, plan_.right - plan_.left, carry_, lines_,
                                  plan_.stride});
    }

    std::uint32_t append_visits(std::size_t y) {
        const std::size_t before = visits_.size();
        const Taps here = plan_.vertical.taps(y);
        const bool carries = plan_.carries && y + 1 < request_.height;
        const Taps next = carries ? plan_.vertical.taps(y + 1) : Taps{};
        for (std::size_t i = plan_.carries ? std::max(visited_, here.first) : here.first; i < here.end; ++i) {
            const std::uint8_t* row = image_.pixels + static_cast<std::ptrdiff_t>(i) * image_.row_stride;
            visits_.push_back({row + 3 * plan_.left, here.weight(i), next.weight(i)});
        }
        visited_ = here.end;
        return static_cast<std::uint32_t>(visits_.size() - before);
    }

    void resample(std::size_t y, std::size_t rows) {
        ResampleTask task{};
        task.lines = lines_;
        task.stride = plan_.stride;
        task.rows = rows;
        task.begins = plan_.steps.begins.data();
        task.bases = plan_.steps.bases.data();
        task.indices = plan_.steps.indices.data();
        task.here = plan_.steps.here.data();
        task.next = plan_.steps.next.data();
        task.width = request_.width;
        for (std::size_t c = 0; c < 3; ++c) {
            const std::size_t out_channel = request_.swap_channels ? 2 - c : c;
            task.scale[c] = 1.0F / request_.std[out_channel];
            task.offset[c] = -request_.mean[out_channel] / request_.std[out_channel];
            task.planes[c] = out_ + (out_channel * request_.height + y) * request_.width;
        }
        preprocess_loops().resample(task);
    }

    const PreprocessRequest& request_;
    const PixelView& image_;
    const Plan& plan_;
    float* out_;  // of this picture
    std::unique_ptr<float[]> memory_;
    float* lines_;
    float* carry_;
    std::vector<Visit> visits_;
    std::uint32_t counts_[band_rows] = {};
    std::size_t visited_ = 0;  // rows of the picture before this one have been added
};

// Rows of one task: all of a picture for a single thread; else few enough for a fair share.
std::size_t rows_of_task(const PreprocessRequest& request) {
    if (request.num_threads == 1) return request.height;
    const std::size_t tasks = tasks_a_thread * request.num_threads;
    const std::size_t rows = request.images.size() * request.height / tasks + 1;
    return std::min((rows + band_rows - 1) / band_rows * band_rows, request.height);
}

}  // namespace

void preprocess(const PreprocessRequest& request, float* out) {
    std::map<std::pair<std::size_t, std::size_t>, Plan> plans;
    for (const PixelView& image : request.images) {
        const std::pair size{image.height, image.width};
        if (plans.contains(size)) continue;
        plans.try_emplace(size, axes_of(image, request), request.resize, preprocess_loops());
    }
    const std::size_t rows = rows_of_task(request), strips = (request.height + rows - 1) / rows;
    parallel_for(request.images.size() * strips, request.num_threads, [&](std::size_t task) {
        const std::size_t n = task / strips, first = task % strips * rows;
        const PixelView& image = request.images[n];
        Strip strip(request, n, plans.at({image.height, image.width}),
                    out + n * 3 * request.height * request.width);
        strip.fill(first, std::min(first + rows, request.height));
    });
}

}  // namespace bowerbird
