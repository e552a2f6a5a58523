#include "bowerbird/nms.hpp"

#include <algorithm>

#include "arguments.hpp"

namespace bowerbird::bindings {
namespace {

constexpr std::int64_t max_boxes = 0xFFFFFFFF;

py::object run(const py::object& where, const py::object& boxes_, const py::object& scores_, double max_iou,
               const py::object& classes_) {
    const Place place(where);
    const Tensor boxes = place.tensor(boxes_, "boxes"), scores = place.tensor(scores_, "scores");
    Tensor classes;
    NmsRequest request{};
    request.boxes = elements<float>(boxes, 2, "boxes");
    require_length(boxes, 1, 4, "boxes");
    request.num_boxes = require_between(boxes.shape[0], 0, max_boxes, "boxes: number");
    require_finite(boxes, "boxes");
    request.scores = elements<float>(scores, 1, "scores");
    require_length(scores, 0, request.num_boxes, "scores");
    require_finite(scores, "scores");
    if (!classes_.is_none()) {
        classes = place.tensor(classes_, "classes");
        request.classes = elements<std::int64_t>(classes, 1, "classes");
        require_length(classes, 0, request.num_boxes, "classes");
    }
    if (!(max_iou >= 0.0 && max_iou <= 1.0)) {
        throw py::value_error("max_iou: expected 0 to 1, got " + std::to_string(max_iou));
    }
    request.max_iou = static_cast<float>(max_iou);

    std::vector<std::int64_t> survivors;
    {
        const py::gil_scoped_release released;
        survivors = nms(request);
    }
    const Tensor indices = place.empty({static_cast<std::int64_t>(survivors.size())}, Element::int64);
    std::copy(survivors.begin(), survivors.end(), static_cast<std::int64_t*>(indices.data));
    return indices.owner;
}

}  // namespace

void bind_nms(py::module_& module) { module.def("nms", &run); }

}  // namespace bowerbird::bindings
