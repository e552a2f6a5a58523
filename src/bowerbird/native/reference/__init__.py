"""The kernels in plain NumPy: slow, obvious, sharing nothing with the compiled ones, so that tests can trust them."""

from bowerbird.native.reference.nms import nms
from bowerbird.native.reference.preprocess import preprocess
from bowerbird.native.reference.rerank import rerank
from bowerbird.native.reference.scan import scan

__all__ = ["nms", "preprocess", "rerank", "scan"]
