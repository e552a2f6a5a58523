#include "bowerbird/nms.hpp"

#include <algorithm>

#include "arguments.hpp"

namespace bowerbird::bindings {
namespace {

constexpr std::int64_t max_boxes = 0xFFFFFFFF;

const std::int64_t* class_ids(const py::object& classes, py::ssize_t num_boxes) {
    if (classes.is_none()) return nullptr;
    const auto array = py::reinterpret_borrow<py::array>(classes);
    const std::int64_t* ids = elements<std::int64_t>(array, 1, "classes");
    require_length(array, 0, num_boxes, "classes");
    return ids;
}

py::array_t<std::int64_t> run(const py::array& boxes, const py::array& scores, double max_iou,
                              const py::object& classes) {
    NmsRequest request{};
    request.boxes = elements<float>(boxes, 2, "boxes");
    require_length(boxes, 1, 4, "boxes");
    request.num_boxes = require_between(boxes.shape(0), 0, max_boxes, "boxes: number");
    require_finite(request.boxes, request.num_boxes * 4, "boxes");
    request.scores = elements<float>(scores, 1, "scores");
    require_length(scores, 0, boxes.shape(0), "scores");
    require_finite(request.scores, request.num_boxes, "scores");
    request.classes = class_ids(classes, boxes.shape(0));
    if (!(max_iou >= 0.0 && max_iou <= 1.0)) {
        throw py::value_error("max_iou: expected 0 to 1, got " + std::to_string(max_iou));
    }
    request.max_iou = static_cast<float>(max_iou);

    std::vector<std::int64_t> survivors;
    {
        const py::gil_scoped_release released;
        survivors = nms(request);
    }
    py::array_t<std::int64_t> indices(static_cast<py::ssize_t>(survivors.size()));
    std::copy(survivors.begin(), survivors.end(), indices.mutable_data());
    return indices;
}

}  // namespace

void bind_nms(py::module_& module) { module.def("nms", &run); }

}  // namespace bowerbird::bindings
