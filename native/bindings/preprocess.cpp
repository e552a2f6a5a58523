#include "bowerbird/preprocess.hpp"

#include <pybind11/stl.h>

#include <algorithm>

#include "arguments.hpp"

namespace bowerbird::bindings {
namespace {

constexpr std::int64_t max_side = 1 << 20;

PixelView pixel_view(const Tensor& image, const char* name) {
    require_element(image, Element::uint8, name);
    require_rank(image, 3, name);
    require_length(image, 2, 3, name);
    PixelView view{};
    view.height = require_between(image.shape[0], 1, max_side, name);
    view.width = require_between(image.shape[1], 1, max_side, name);
    if (image.strides[2] != 1 || (image.strides[1] != 3 && view.width > 1)) {
        throw py::value_error(std::string(name) + ": expected the pixels of a row without gaps, got pixel and channel " +
                              "strides " + std::to_string(image.strides[1]) + " and " +
                              std::to_string(image.strides[2]) + "; pass a contiguous copy");
    }
    view.pixels = static_cast<const std::uint8_t*>(image.data);
    view.row_stride = image.strides[0];
    return view;
}

void compute(const Place& place, const PreprocessRequest& request, float* out) {
    if (place.on_host()) {
        const py::gil_scoped_release released;
        return preprocess(request, out);
    }
    const DeviceWork work = place.work(cuda::preprocess_scratch_bytes(request));
    const py::gil_scoped_release released;
    cuda::preprocess(request, work.context, out);
}

void run(const py::object& where, const py::list& images, const std::array<float, 3>& mean,
         const std::array<float, 3>& std_, bool swap_channels, bool area, std::int64_t shorter_side,
         const py::object& out_, std::int64_t num_threads) {
    const Place place(where);
    PreprocessRequest request{};
    std::vector<Tensor> views;
    for (std::size_t i = 0; i < images.size(); ++i) {
        const std::string name = "images[" + std::to_string(i) + "]";
        views.push_back(place.tensor(images[i], name.c_str()));
        request.images.push_back(pixel_view(views.back(), name.c_str()));
    }
    const Tensor out = place.tensor(out_, "out");
    auto* values = elements<float>(out, 4, "out");
    require_length(out, 0, images.size(), "out");
    require_length(out, 1, 3, "out");
    require_writable(out, "out");
    request.height = out.length(2);
    request.width = out.length(3);
    request.mean = mean;
    request.std = std_;
    request.swap_channels = swap_channels;
    request.resize = area ? Resize::area : Resize::bilinear;
    if (shorter_side != 0) {
        const auto longest = static_cast<std::int64_t>(std::max(request.height, request.width));
        request.shorter_side = require_between(shorter_side, longest, max_side, "shorter_side");
    }
    request.num_threads = require_between(num_threads, 1, max_threads, "num_threads");
    compute(place, request, values);
}

}  // namespace

void bind_preprocess(py::module_& module) { module.def("preprocess", &run); }

}  // namespace bowerbird::bindings
