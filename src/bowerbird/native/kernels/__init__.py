"""Typed entry points of the compiled kernels, one module each: numbers are checked here, arrays and work in C++."""

from bowerbird.native.kernels.detection_postprocess import detection_postprocess
from bowerbird.native.kernels.nms import batched_nms, nms, soft_nms
from bowerbird.native.kernels.preprocess import preprocess
from bowerbird.native.kernels.rerank import rerank
from bowerbird.native.kernels.roi_align import roi_align
from bowerbird.native.kernels.scan import scan
from bowerbird.native.kernels.walk import bias_table, walk

__all__ = [
    "batched_nms",
    "bias_table",
    "detection_postprocess",
    "nms",
    "preprocess",
    "rerank",
    "roi_align",
    "scan",
    "soft_nms",
    "walk",
]
