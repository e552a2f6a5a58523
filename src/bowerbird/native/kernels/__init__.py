"""Typed entry points of the compiled kernels, one module each: numbers are checked here, arrays and work in C++."""

from bowerbird.native.kernels.nms import batched_nms, nms
from bowerbird.native.kernels.preprocess import preprocess
from bowerbird.native.kernels.rerank import rerank
from bowerbird.native.kernels.scan import scan

__all__ = ["batched_nms", "nms", "preprocess", "rerank", "scan"]
