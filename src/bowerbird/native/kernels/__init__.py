"""Typed entry points of the compiled kernels, one module each: numbers are checked here, arrays and work in C++."""

from bowerbird.native.kernels.nms import nms
from bowerbird.native.kernels.preprocess import preprocess
from bowerbird.native.kernels.rerank import rerank
from bowerbird.native.kernels.scan import scan

__all__ = ["nms", "preprocess", "rerank", "scan"]
