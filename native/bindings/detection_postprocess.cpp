#include "bowerbird/detection_postprocess.hpp"

#include <pybind11/stl.h>

#include <limits>
#include <optional>

#include "arguments.hpp"

namespace bowerbird::bindings {
namespace {

constexpr std::int64_t max_pairs = 0x7FFFFFFF;

// What a call says beside its arrays.
struct Options {
    std::string decoding, activation;
    std::optional<std::array<double, 2>> image_size;  // height, width
    double min_score, max_iou;
    std::int64_t max_candidates, max_detections;
    std::optional<double> soft_sigma;
    std::array<double, 4> delta_weights;
    std::int64_t num_threads;
};

void set_scores(DetectionRequest& request, const Tensor& scores) {
    request.scores = elements<float>(scores, 3, "scores");
    request.num_images = scores.length(0);
    request.num_anchors = scores.length(1);
    request.num_classes = scores.length(2);
    require_between(scores.shape[1], 0, max_pairs, "scores: number of anchors");
    require_between(scores.shape[2], 0, max_pairs, "scores: number of classes");
    require_between(scores.shape[1] * scores.shape[2], 0, max_pairs, "scores: number of anchors times classes");
}

void set_boxes(DetectionRequest& request, const Tensor& boxes, const Options& options) {
    request.boxes = elements<float>(boxes, 3, "boxes");
    require_length(boxes, 0, request.num_images, "boxes");
    require_length(boxes, 1, request.num_anchors, "boxes");
    request.num_bins = boxes.length(2) / 4;
    if (options.decoding == "distances") {
        request.decoding = Decoding::distances;
        if (boxes.length(2) % 4 == 0 && request.num_bins >= 1) return;
        throw py::value_error("boxes: expected 4 numbers an anchor, or a multiple of 4, got " + describe(boxes));
    }
    require_length(boxes, 2, 4, "boxes");
    if (options.decoding == "deltas") request.decoding = Decoding::deltas;
}

void set_anchors(DetectionRequest& request, const Tensor& anchors) {
    request.anchors = elements<float>(anchors, 2, "anchors");
    require_length(anchors, 0, request.num_anchors, "anchors");
    require_length(anchors, 1, request.decoding == Decoding::deltas ? 4 : 3, "anchors");
    require_finite(anchors, "anchors");
}

void set_threshold(DetectionRequest& request, const Options& options) {
    const double score = options.min_score;
    request.min_score = static_cast<float>(score);
    if (options.activation == "sigmoid") {
        request.activation = Activation::sigmoid;
        require_fraction(score, "min_score");
        request.min_score = static_cast<float>(std::log(score / (1.0 - score)));
    } else if (!std::isfinite(request.min_score)) {
        throw py::value_error("min_score: expected a finite number, got " + std::to_string(score));
    }
    if (!options.soft_sigma) return;
    request.soft_sigma = require_positive(*options.soft_sigma, "soft_sigma");
    request.soft_min_score = static_cast<float>(score);
    if (score >= 0.0) return;
    throw py::value_error("min_score: expected at least 0 with soft_sigma, got " + std::to_string(score));
}

void set_options(DetectionRequest& request, const Options& options) {
    set_threshold(request, options);
    request.max_iou = require_fraction(options.max_iou, "max_iou");
    request.max_candidates = require_between(options.max_candidates, 1, max_k, "max_candidates");
    request.max_detections = require_between(options.max_detections, 1, max_k, "max_detections");
    request.num_threads = require_between(options.num_threads, 1, max_threads, "num_threads");
    for (std::size_t i = 0; i < 4; ++i) {
        request.delta_weights[i] = require_positive(options.delta_weights[i], "delta_weights");
    }
    if (!options.image_size) return;
    request.clip = true;
    request.image_height = require_positive((*options.image_size)[0], "image_size");
    request.image_width = require_positive((*options.image_size)[1], "image_size");
}

// A byte a class, of either type: both are 0 where a class is not wanted.
void set_wanted(DetectionRequest& request, const Tensor& wanted) {
    if (wanted.element != Element::boolean) require_element(wanted, Element::uint8, "wanted");
    require_rank(wanted, 1, "wanted");
    require_contiguous(wanted, "wanted");
    require_length(wanted, 0, request.num_classes, "wanted");
    request.wanted = static_cast<const std::uint8_t*>(wanted.data);
}

void compute(const Place& place, const DetectionRequest& request, const Detections& detections) {
    if (place.on_host()) {
        const py::gil_scoped_release released;
        detection_postprocess(request, detections);
        return;
    }
    const DeviceWork work = place.work(cuda::detection_postprocess_scratch_bytes(request));
    const py::gil_scoped_release released;
    cuda::detection_postprocess(request, work.context, detections);
}

py::tuple run(const py::object& where, const py::object& scores_, const py::object& boxes_, const py::object& anchors_,
              const py::object& wanted_, const Options& options) {
    const Place place(where);
    const Tensor scores = place.tensor(scores_, "scores"), boxes = place.tensor(boxes_, "boxes");
    Tensor anchors, wanted;
    DetectionRequest request{};
    set_scores(request, scores);
    set_boxes(request, boxes, options);
    if (request.decoding != Decoding::none) {
        anchors = place.tensor(anchors_, "anchors");
        set_anchors(request, anchors);
    } else if (!anchors_.is_none()) {
        throw py::value_error("anchors: expected None where boxes are not decoded");
    }
    if (!wanted_.is_none()) {
        wanted = place.tensor(wanted_, "wanted");
        set_wanted(request, wanted);
    }
    set_options(request, options);

    const std::int64_t images = scores.shape[0], most = options.max_detections;
    const Tensor found = place.empty({images, most, 4}, Element::float32);
    const Tensor found_scores = place.empty({images, most}, Element::float32);
    const Tensor found_classes = place.empty({images, most}, Element::int64);
    const Tensor counts = place.empty({images}, Element::int32);
    compute(place, request,
            {static_cast<float*>(found.data), static_cast<float*>(found_scores.data),
             static_cast<std::int64_t*>(found_classes.data), static_cast<std::int32_t*>(counts.data)});
    return py::make_tuple(found.owner, found_scores.owner, found_classes.owner, counts.owner);
}

}  // namespace

void bind_detection_postprocess(py::module_& module) {
    module.def("detection_postprocess",
               [](const py::object& place, const py::object& scores, const py::object& boxes, const py::object& anchors,
                  const py::object& wanted, std::string decoding, std::string activation,
                  std::optional<std::array<double, 2>> image_size, double min_score, double max_iou,
                  std::int64_t max_candidates, std::int64_t max_detections, std::optional<double> soft_sigma,
                  std::array<double, 4> delta_weights, std::int64_t num_threads) {
                   return run(place, scores, boxes, anchors, wanted,
                              {std::move(decoding), std::move(activation), image_size, min_score, max_iou,
                               max_candidates, max_detections, soft_sigma, delta_weights, num_threads});
               });
}

}  // namespace bowerbird::bindings
