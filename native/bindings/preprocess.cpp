#include "bowerbird/preprocess.hpp"

#include "arguments.hpp"

namespace bowerbird::bindings {
namespace {

constexpr std::int64_t max_side = 1 << 20;

PixelView pixel_view(const py::array& image, const char* name) {
    require_dtype(image, py::dtype::of<std::uint8_t>(), name);
    require_rank(image, 3, name);
    require_length(image, 2, 3, name);
    PixelView view{};
    view.height = require_between(image.shape(0), 1, max_side, name);
    view.width = require_between(image.shape(1), 1, max_side, name);
    if (image.strides(2) != 1 || (image.strides(1) != 3 && image.shape(1) > 1)) {
        throw py::value_error(std::string(name) + ": expected the pixels of a row without gaps, got strides " +
                              py::str(image.attr("strides")).cast<std::string>() +
                              "; pass numpy.ascontiguousarray(image)");
    }
    view.pixels = static_cast<const std::uint8_t*>(image.data());
    view.row_stride = image.strides(0);
    return view;
}

void run(const py::list& images, const py::array& mean, const py::array& std, bool swap_channels, py::array& out,
         std::int64_t num_threads) {
    PreprocessRequest request{};
    for (std::size_t i = 0; i < images.size(); ++i) {
        const std::string name = "images[" + std::to_string(i) + "]";
        request.images.push_back(pixel_view(py::reinterpret_borrow<py::array>(images[i]), name.c_str()));
    }
    elements<float>(out, 4, "out");
    require_length(out, 0, static_cast<py::ssize_t>(images.size()), "out");
    require_length(out, 1, 3, "out");
    if (!out.writeable()) throw py::value_error("out: expected a writable array, got a read-only one");
    request.height = length(out, 2);
    request.width = length(out, 3);
    std::copy_n(elements<float>(mean, 1, "mean"), 3, request.mean.begin());
    std::copy_n(elements<float>(std, 1, "std"), 3, request.std.begin());
    request.swap_channels = swap_channels;
    request.num_threads = require_between(num_threads, 1, max_threads, "num_threads");
    float* values = static_cast<float*>(out.mutable_data());
    const py::gil_scoped_release released;
    preprocess(request, values);
}

}  // namespace

void bind_preprocess(py::module_& module) { module.def("preprocess", &run); }

}  // namespace bowerbird::bindings
