#include "bowerbird/roi_align.hpp"

#include "arguments.hpp"

namespace bowerbird::bindings {
namespace {

constexpr std::int64_t max_lines = 1 << 20, max_bins = 1024, max_samples = 1024;
constexpr double max_scale = 1e9;  // times the largest float32 is far from the largest float64

void set_features(RoiAlignRequest& request, const Tensor& features) {
    require_element(features, Element::float32, "features");
    require_rank(features, 4, "features");
    bool whole = reinterpret_cast<std::uintptr_t>(features.data) % sizeof(float) == 0;
    for (std::size_t axis = 0; axis < 4; ++axis) {
        request.shape[axis] = features.length(axis);
        request.strides[axis] = features.strides[axis] / static_cast<std::ptrdiff_t>(sizeof(float));
        whole = whole && features.strides[axis] % static_cast<std::int64_t>(sizeof(float)) == 0;
    }
    if (!whole) throw py::value_error("features: expected an aligned array, got " + describe(features));
    require_between(features.shape[2], 1, max_lines, "features: height");
    require_between(features.shape[3], 1, max_lines, "features: width");
    request.features = static_cast<const float*>(features.data);
}

void set_boxes(RoiAlignRequest& request, const Tensor& boxes, const Tensor& images) {
    request.boxes = elements<float>(boxes, 2, "boxes");
    require_length(boxes, 1, 4, "boxes");
    require_finite(boxes, "boxes");
    request.num_boxes = require_between(boxes.shape[0], 0, max_k, "boxes: count");
    request.images = elements<std::int64_t>(images, 1, "images");
    require_length(images, 0, request.num_boxes, "images");
}

void compute(const Place& place, const RoiAlignRequest& request, float* out) {
    if (place.on_host()) {
        const py::gil_scoped_release released;
        return roi_align(request, out);
    }
    const DeviceWork work = place.work(cuda::roi_align_scratch_bytes(request));
    const py::gil_scoped_release released;
    cuda::roi_align(request, work.context, out);
}

py::object run(const py::object& where, const py::object& features_, const py::object& boxes_,
               const py::object& images_, std::int64_t height, std::int64_t width, double spatial_scale,
               std::int64_t sampling_ratio, bool aligned, std::int64_t num_threads) {
    const Place place(where);
    const Tensor features = place.tensor(features_, "features"), boxes = place.tensor(boxes_, "boxes");
    const Tensor images = place.tensor(images_, "images");
    RoiAlignRequest request{};
    set_features(request, features);
    set_boxes(request, boxes, images);
    request.height = require_between(height, 1, max_bins, "output_size: height");
    request.width = require_between(width, 1, max_bins, "output_size: width");
    if (!(spatial_scale > 0 && spatial_scale <= max_scale)) {
        throw py::value_error("spatial_scale: expected a number above 0 and up to 1e9, got " +
                              std::to_string(spatial_scale));
    }
    request.spatial_scale = spatial_scale;
    request.sampling_ratio = require_between(sampling_ratio, 0, max_samples, "sampling_ratio");
    request.aligned = aligned;
    request.num_threads = require_between(num_threads, 1, max_threads, "num_threads");
    const Tensor out = place.empty({boxes.shape[0], features.shape[1], height, width}, Element::float32);
    compute(place, request, static_cast<float*>(out.data));
    return out.owner;
}

}  // namespace

void bind_roi_align(py::module_& module) { module.def("roi_align", &run); }

}  // namespace bowerbird::bindings
