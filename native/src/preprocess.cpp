// Two passes with a triangle filter as wide as the reduction (Pillow's BILINEAR, without its rounding to bytes in
// between). The vertical pass comes first: it reads bytes in long runs and leaves few rows for the horizontal pass,
// which takes them from the cache, normalises, and writes into the output.
#include "bowerbird/preprocess.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "parallel.hpp"
#include "preprocess_loops.hpp"

namespace bowerbird {
namespace {

constexpr std::size_t band_rows = 32;    // output rows of one task
constexpr std::size_t row_padding = 16;  // readable values beyond a row

// For each output position the inputs it is made of: the same number of taps everywhere, zero weights at the edges.
struct Filter {
    std::size_t taps = 0;
    std::vector<std::uint32_t> starts;
    std::vector<float> weights;  // (outputs, taps)

    Filter(std::size_t inputs, std::size_t outputs) : starts(outputs) {
        const double ratio = static_cast<double>(inputs) / static_cast<double>(outputs);
        const double support = std::max(ratio, 1.0);
        taps = std::min(static_cast<std::size_t>(std::ceil(support)) * 2 + 1, inputs);
        weights.resize(outputs * taps);
        for (std::size_t i = 0; i < outputs; ++i) {
            const double center = (static_cast<double>(i) + 0.5) * ratio;
            const double last = static_cast<double>(inputs - taps);
            const double first = std::clamp(std::floor(center - support + 0.5), 0.0, last);
            starts[i] = static_cast<std::uint32_t>(first);
            fill_weights(center - first - 0.5, support, weights.data() + i * taps);
        }
    }

private:
    // Triangle of half width `support` around `center`, in taps; sums to one.
    void fill_weights(double center, double support, float* out) const {
        double sum = 0.0;
        for (std::size_t t = 0; t < taps; ++t) sum += triangle((static_cast<double>(t) - center) / support);
        for (std::size_t t = 0; t < taps; ++t) {
            out[t] = static_cast<float>(triangle((static_cast<double>(t) - center) / support) / sum);
        }
    }

    static double triangle(double x) { return std::max(0.0, 1.0 - std::abs(x)); }
};

struct Plan {
    Filter vertical, horizontal;

    Plan(const PixelView& image, const PreprocessRequest& request)
        : vertical(image.height, request.height), horizontal(image.width, request.width) {}
};

RowTask row_task(const PreprocessRequest& request, const Filter& horizontal, const float* row) {
    RowTask task{};
    task.row = row;
    task.starts = horizontal.starts.data();
    task.weights = horizontal.weights.data();
    task.taps = horizontal.taps;
    task.width = request.width;
    for (std::size_t c = 0; c < 3; ++c) {
        const std::size_t out_channel = request.swap_channels ? 2 - c : c;
        task.scale[c] = 1.0F / request.std[out_channel];
        task.offset[c] = -request.mean[out_channel] / request.std[out_channel];
    }
    return task;
}

void fill_band(const PreprocessRequest& request, std::size_t n, const Plan& plan, std::size_t first_row, float* out) {
    const PixelView& image = request.images[n];
    const std::size_t plane = request.height * request.width;
    const std::size_t taps = plan.vertical.taps;
    std::vector<float> blended(image.width * 3 + row_padding);
    std::vector<const std::uint8_t*> rows(taps);
    RowTask task = row_task(request, plan.horizontal, blended.data());
    for (std::size_t y = first_row; y < std::min(first_row + band_rows, request.height); ++y) {
        for (std::size_t t = 0; t < taps; ++t) {
            rows[t] = image.pixels + static_cast<std::ptrdiff_t>(plan.vertical.starts[y] + t) * image.row_stride;
        }
        preprocess_loops().blend_rows(rows.data(), plan.vertical.weights.data() + y * taps, taps, image.width * 3,
                             blended.data());
        for (std::size_t c = 0; c < 3; ++c) {
            const std::size_t out_channel = request.swap_channels ? 2 - c : c;
            task.planes[c] = out + (n * 3 + out_channel) * plane + y * request.width;
        }
        preprocess_loops().resample_row(task);
    }
}

}  // namespace

void preprocess(const PreprocessRequest& request, float* out) {
    const std::size_t bands = (request.height + band_rows - 1) / band_rows;
    std::vector<Plan> plans;
    plans.reserve(request.images.size());
    for (const PixelView& image : request.images) plans.emplace_back(image, request);
    parallel_for(request.images.size() * bands, request.num_threads, [&](std::size_t task) {
        const std::size_t n = task / bands;
        fill_band(request, n, plans[n], task % bands * band_rows, out);
    });
}

}  // namespace bowerbird
