"""The kernels in plain NumPy: slow, obvious, sharing nothing with the compiled ones, so that tests can trust them."""

from bowerbird.native.reference.detection_postprocess import detection_postprocess
from bowerbird.native.reference.nms import batched_nms, nms, soft_nms
from bowerbird.native.reference.preprocess import preprocess
from bowerbird.native.reference.rerank import rerank
from bowerbird.native.reference.roi_align import roi_align
from bowerbird.native.reference.scan import scan
from bowerbird.native.reference.walk import bias_table, walk

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
