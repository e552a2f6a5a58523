#include "bowerbird/nms.hpp"

#include "arguments.hpp"

namespace bowerbird::bindings {
namespace {

constexpr std::int64_t max_boxes = 0x7FFFFFFF;

// Boxes, scores and classes of one image (rank 2: N, 4) or of a batch (rank 3: B, N, 4).
struct BoxSet {
    Tensor boxes, scores, classes;

    BoxSet(const Place& place, std::size_t rank, const py::object& boxes_, const py::object& scores_,
           const py::object& classes_)
        : boxes(place.tensor(boxes_, "boxes")), scores(place.tensor(scores_, "scores")) {
        elements<float>(boxes, rank, "boxes");
        require_length(boxes, rank - 1, 4, "boxes");
        require_between(boxes.shape[rank - 2], 0, max_boxes, "boxes: number");
        require_finite(boxes, "boxes");
        elements<float>(scores, rank - 1, "scores");
        require_like_boxes(scores, "scores");
        require_finite(scores, "scores");
        if (classes_.is_none()) return;
        classes = place.tensor(classes_, "classes");
        elements<std::int64_t>(classes, rank - 1, "classes");
        require_like_boxes(classes, "classes");
    }

private:
    void require_like_boxes(const Tensor& tensor, const char* name) const {
        for (std::size_t axis = 0; axis < tensor.rank; ++axis) require_length(tensor, axis, boxes.length(axis), name);
    }
};

void require_counts(const Tensor& counts, const BoxSet& set) {
    const auto* values = elements<std::int32_t>(counts, 1, "counts");
    require_length(counts, 0, set.boxes.length(0), "counts");
    if (!counts.on_host()) return;
    for (std::size_t i = 0; i < counts.length(0); ++i) {
        require_between(values[i], 0, set.boxes.shape[1], "counts: number of boxes");
    }
}

NmsRequest request_of(const BoxSet& set, double max_iou, std::int64_t max_kept, std::int64_t num_threads) {
    NmsRequest request{};
    request.boxes = static_cast<const float*>(set.boxes.data);
    request.scores = static_cast<const float*>(set.scores.data);
    request.classes = static_cast<const std::int64_t*>(set.classes.data);
    request.num_images = set.boxes.rank == 3 ? set.boxes.length(0) : 1;
    request.num_boxes = set.boxes.length(set.boxes.rank - 2);
    request.max_kept = require_between(max_kept, 0, max_boxes, "max_kept");
    request.max_iou = require_fraction(max_iou, "max_iou");
    request.num_threads = require_between(num_threads, 1, max_threads, "num_threads");
    return request;
}

void suppress(const Place& place, const NmsRequest& request, const Tensor& indices, const Tensor& counts) {
    auto* indices_out = static_cast<std::int64_t*>(indices.data);
    auto* counts_out = static_cast<std::int32_t*>(counts.data);
    if (place.on_host()) {
        const py::gil_scoped_release released;
        nms(request, indices_out, counts_out);
        return;
    }
    const DeviceWork work = place.work(cuda::nms_scratch_bytes(request));
    const py::gil_scoped_release released;
    cuda::nms(request, work.context, indices_out, counts_out);
}

// Indices (N) and their number (1), so that nothing here waits for a device.
py::tuple run(const py::object& where, const py::object& boxes, const py::object& scores, double max_iou,
              const py::object& classes) {
    const Place place(where);
    const BoxSet set(place, 2, boxes, scores, classes);
    const NmsRequest request = request_of(set, max_iou, set.boxes.shape[0], 1);
    const Tensor indices = place.empty({set.boxes.shape[0]}, Element::int64);
    const Tensor count = place.empty({1}, Element::int32);
    suppress(place, request, indices, count);
    return py::make_tuple(indices.owner, count.owner);
}

py::tuple run_batched(const py::object& where, const py::object& boxes, const py::object& scores, double max_iou,
                      const py::object& classes, const py::object& counts_, const py::object& max_kept_,
                      std::int64_t num_threads) {
    const Place place(where);
    const BoxSet set(place, 3, boxes, scores, classes);
    const std::int64_t max_kept = max_kept_.is_none() ? set.boxes.shape[1] : max_kept_.cast<std::int64_t>();
    NmsRequest request = request_of(set, max_iou, max_kept, num_threads);
    Tensor counts;
    if (!counts_.is_none()) {
        counts = place.tensor(counts_, "counts");
        require_counts(counts, set);
        request.counts = static_cast<const std::int32_t*>(counts.data);
    }
    const Tensor indices = place.empty({set.boxes.shape[0], max_kept}, Element::int64);
    const Tensor kept = place.empty({set.boxes.shape[0]}, Element::int32);
    suppress(place, request, indices, kept);
    return py::make_tuple(indices.owner, kept.owner);
}

SoftNmsRequest soft_request_of(const BoxSet& set, bool gaussian, double sigma, double max_iou, double min_score) {
    SoftNmsRequest request{};
    request.boxes = static_cast<const float*>(set.boxes.data);
    request.scores = static_cast<const float*>(set.scores.data);
    request.classes = static_cast<const std::int64_t*>(set.classes.data);
    request.num_boxes = set.boxes.length(0);
    request.decay = gaussian ? Decay::gaussian : Decay::linear;
    request.sigma = require_positive(sigma, "sigma");
    request.max_iou = require_fraction(max_iou, "max_iou");
    request.min_score = static_cast<float>(min_score);
    if (!(request.min_score >= 0.0F && std::isfinite(request.min_score))) {
        throw py::value_error("min_score: expected a finite number of at least 0, got " + std::to_string(min_score));
    }
    return request;
}

// Indices (N), scores (N) and their number (1).
py::tuple run_soft(const py::object& where, const py::object& boxes, const py::object& scores, bool gaussian,
                   double sigma, double max_iou, double min_score, const py::object& classes) {
    const Place place(where);
    const BoxSet set(place, 2, boxes, scores, classes);
    const SoftNmsRequest request = soft_request_of(set, gaussian, sigma, max_iou, min_score);
    const Tensor indices = place.empty({set.boxes.shape[0]}, Element::int64);
    const Tensor decayed = place.empty({set.boxes.shape[0]}, Element::float32);
    const Tensor count = place.empty({1}, Element::int32);
    auto* indices_out = static_cast<std::int64_t*>(indices.data);
    auto* scores_out = static_cast<float*>(decayed.data);
    auto* count_out = static_cast<std::int32_t*>(count.data);
    if (place.on_host()) {
        const py::gil_scoped_release released;
        soft_nms(request, indices_out, scores_out, count_out);
    } else {
        const DeviceWork work = place.work(cuda::soft_nms_scratch_bytes(request));
        const py::gil_scoped_release released;
        cuda::soft_nms(request, work.context, indices_out, scores_out, count_out);
    }
    return py::make_tuple(indices.owner, decayed.owner, count.owner);
}

}  // namespace

void bind_nms(py::module_& module) {
    module.def("nms", &run);
    module.def("batched_nms", &run_batched);
    module.def("soft_nms", &run_soft);
}

}  // namespace bowerbird::bindings
