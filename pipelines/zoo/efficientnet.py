"""EfficientNet-lite0 as an ONNX graph: published weights in, unit-length embedding and code projection out.

Source: Tan & Le, EfficientNet, 2019 (the network); the lite variants drop squeeze-and-excitation and use ReLU6.
Batch normalisation is folded into the convolutions in float64. The classifier is left out.

Legend: N pictures, H W pixels, D = 1280 features, B = 256 code bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from pipelines.zoo.onnx_writer import GraphWriter, read_constant, replace_constant

FloatArray = npt.NDArray[np.float32]
Weights = Mapping[str, FloatArray]

DIMENSION = 1280
CODE_BITS = 256
BATCH_NORM_EPSILON = 1e-3
CODE_WEIGHT, CODE_BIAS = "code.weight", "code.bias"


@dataclass(frozen=True)
class Stage:
    """A run of inverted-residual blocks; only the first one has the stride."""

    blocks: int
    stride: int


STAGES = (Stage(1, 1), Stage(2, 2), Stage(2, 2), Stage(3, 2), Stage(3, 1), Stage(4, 2), Stage(1, 1))


def build(weights: Weights, projection: FloatArray, bias: FloatArray, *, half: bool = True) -> onnx.ModelProto:
    """The model with input `pictures` (N, 3, H, W) and outputs `embedding` (N, D), `code_projection` (N, B).

    Args:
        weights: the tensors of the published checkpoint by name.
        projection: (D, B) float32; bias: (B,) float32; code_projection = embedding @ projection + bias.
        half: store the weights as float16; False: as they are, to check the conversion without the rounding.
    """
    graph = GraphWriter("efficientnet-lite0", half=half)
    x = _convolution(graph, weights, "pictures", "_conv_stem", "_bn0", stride=2, clip=True)
    block = 0
    for stage in STAGES:
        for position in range(stage.blocks):
            x = _inverted_residual(graph, weights, x, f"_blocks.{block}", stage.stride if position == 0 else 1)
            block += 1
    x = _convolution(graph, weights, x, "_conv_head", "_bn1", clip=True)
    _heads(graph, graph.add("Flatten", [graph.add("GlobalAveragePool", [x])]), projection, bias)
    return graph.model(
        {"pictures": ["batch", 3, "height", "width"]},
        {"embedding": ["batch", DIMENSION], "code_projection": ["batch", CODE_BITS]},
    )


def read_projection(model: onnx.ModelProto) -> tuple[FloatArray, FloatArray]:
    """(D, B) weight and (B,) bias of the code projection, float32."""
    return read_constant(model, CODE_WEIGHT).astype(np.float32), read_constant(model, CODE_BIAS)


def write_projection(model: onnx.ModelProto, projection: FloatArray, bias: FloatArray) -> None:
    """Put another code projection, (D, B) and (B,), into the model."""
    replace_constant(model, CODE_WEIGHT, projection)
    replace_constant(model, CODE_BIAS, bias)


def random_projection(seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """(D, B) orthonormal columns and (B,) zeros: the projection of a model whose codes are not fitted yet."""
    gaussian = np.random.default_rng(seed).standard_normal((DIMENSION, CODE_BITS))
    return np.linalg.qr(gaussian)[0].astype(np.float32), np.zeros(CODE_BITS, np.float32)


def _heads(graph: GraphWriter, features: str, projection: FloatArray, bias: FloatArray) -> None:
    """Unit-length square roots of the features as `embedding`, their projection as `code_projection`.

    The features are not negative (ReLU6), so that the inner product of two embeddings is the Bhattacharyya coefficient
    of the pictures' features: strong features no longer drown the others. Source: Arandjelovic & Zisserman, Three
    things everyone should know to improve object retrieval, 2012, section 3 (RootSIFT).
    """
    total = graph.add("ReduceSum", [features, graph.constant([1], dtype=np.int64)], keepdims=1)
    safe = graph.add("Max", [total, graph.constant(np.finfo(np.float32).tiny, dtype=np.float32)])
    embedding = graph.add("Sqrt", [graph.add("Div", [features, safe])], output="embedding")
    inputs = [embedding, graph.weight(projection, CODE_WEIGHT), graph.constant(bias, CODE_BIAS, np.float32)]
    graph.add("Gemm", inputs, output="code_projection")


def _inverted_residual(graph: GraphWriter, weights: Weights, x: str, prefix: str, stride: int) -> str:
    """Expand, convolve each channel, project; the input is added where the shape stays."""
    y = x
    if f"{prefix}._expand_conv.weight" in weights:
        y = _convolution(graph, weights, y, f"{prefix}._expand_conv", f"{prefix}._bn0", clip=True)
    y = _convolution(graph, weights, y, f"{prefix}._depthwise_conv", f"{prefix}._bn1", stride=stride, clip=True)
    y = _convolution(graph, weights, y, f"{prefix}._project_conv", f"{prefix}._bn2")
    first = weights.get(f"{prefix}._expand_conv.weight", weights[f"{prefix}._depthwise_conv.weight"])
    channels_in = first.shape[1] if first.shape[2] == 1 else first.shape[0]
    channels_out = weights[f"{prefix}._project_conv.weight"].shape[0]
    return graph.add("Add", [y, x]) if stride == 1 and channels_in == channels_out else y


def _convolution(
    graph: GraphWriter, weights: Weights, x: str, name: str, norm: str, *, stride: int = 1, clip: bool = False
) -> str:
    """Convolution with its batch normalisation folded in, padded as TensorFlow does, then ReLU6 if `clip`."""
    kernel, shift = _fold(weights, name, norm)
    size = kernel.shape[2]
    padding = {"auto_pad": "SAME_UPPER"} if size > 1 else {}
    y = graph.add(
        "Conv",
        [x, graph.weight(kernel, f"{name}.weight"), graph.constant(shift, f"{name}.bias", np.float32)],
        kernel_shape=[size, size],
        strides=[stride, stride],
        group=kernel.shape[0] if kernel.shape[1] == 1 else 1,
        **padding,
    )
    if not clip:
        return y
    return graph.add("Clip", [y, graph.constant(0, "zero", np.float32), graph.constant(6, "six", np.float32)])


def _fold(weights: Weights, name: str, norm: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Kernel and bias equal to the convolution followed by its batch normalisation."""
    kernel = weights[f"{name}.weight"].astype(np.float64)
    scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"].astype(np.float64) + BATCH_NORM_EPSILON)
    return kernel * scale[:, None, None, None], weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
