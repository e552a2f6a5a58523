"""EfficientNet-lite0 as a torch network, to train on: the whole, or its front as the stem of a Vision Transformer.

Source: Tan & Le 2019 (the network); the lite variants drop squeeze-and-excitation and use ReLU6. Batch normalisation is
folded into the convolutions, as in the zoo's file, so every layer is a convolution with a bias.

Legend: B pictures, H W pixels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.errors import ModelFileCorrupt
from bowerbird.models import zoo

FEATURES = 1280


@dataclass(frozen=True)
class _Stage:
    """A run of inverted-residual blocks; only the first one has the stride."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    blocks: int


_STEM_CHANNELS = 32
_STAGES = (
    _Stage(3, 1, 1, 16, 1),
    _Stage(3, 2, 6, 24, 2),
    _Stage(5, 2, 6, 40, 2),
    _Stage(3, 2, 6, 80, 3),
    _Stage(5, 1, 6, 112, 3),
    _Stage(5, 2, 6, 192, 4),
    _Stage(3, 1, 6, 320, 1),
)


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow does: with stride 2, less above and left than below and right."""

    def __init__(self, before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(before, after, kernel, stride, padding=kernel // 2 if stride == 1 else 0, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))."""
        if self.stride[0] == 2:
            height, width = (self.kernel_size[0] - 2 + size % 2 for size in x.shape[2:])
            x = functional.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(x)


class InvertedResidual(nn.Module):
    """Expand, convolve each channel, project; the input is added where the shape stays."""

    def __init__(self, before: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        hidden = before * stage.expansion
        self.expand = SameConv2d(before, hidden, 1) if stage.expansion > 1 else None
        self.depthwise = SameConv2d(hidden, hidden, stage.kernel, stride=stride, groups=hidden)
        self.project = SameConv2d(hidden, stage.channels, 1)
        self.adds = stride == 1 and before == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        y = x if self.expand is None else functional.relu6(self.expand(x))
        y = self.project(functional.relu6(self.depthwise(y)))
        return x + y if self.adds else y


class EfficientNetStages(nn.Module):
    """The convolutional stages up to a stride.

    Args:
        stride: pixels of the picture a pixel of the result; one of 2, 4, 8, 16, 32.
    Attributes:
        channels: of the result: 16, 24, 40, 112 or 320.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stem = SameConv2d(3, _STEM_CHANNELS, 3, stride=2)
        blocks: list[nn.Module] = []
        channels, reached = _STEM_CHANNELS, 2
        for stage in _STAGES:
            reached *= stage.stride
            if reached > stride:
                break
            for number in range(stage.blocks):
                blocks.append(InvertedResidual(channels, stage, stage.stride if number == 0 else 1))
                channels = stage.channels
        self.blocks = nn.Sequential(*blocks)
        self.channels = channels

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) float, (pixel - 127) / 128 -> (B, channels, ceil(H / stride), ceil(W / stride))."""
        return self.blocks(functional.relu6(self.stem(pictures)))


class EfficientNetLite0(nn.Module):
    """The whole network without its classifier: FEATURES numbers a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = EfficientNetStages(32)
        self.head = SameConv2d(self.stages.channels, FEATURES, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) float, (pixel - 127) / 128 -> (B, FEATURES), mean-pooled, not negative.

        The zoo's embedding is the square root of these divided by their sum.
        """
        return functional.relu6(self.head(self.stages(pictures))).mean((2, 3))


def load_zoo_weights(network: EfficientNetStages | EfficientNetLite0, *, zoo_dir: Path | None = None) -> None:
    """Give a network the published weights, from the initialisers of the zoo's ONNX file (float16).

    Raises:
        ModelNotFound, ModelFileCorrupt: see `bowerbird.models.zoo.load`; also a weight that is missing or misshapen.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(zoo.load("efficientnet-lite0", zoo_dir=zoo_dir).path).graph
    stored = {weight.name: weight for weight in graph.initializer}
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            published = _published_name(name)
            weight = stored.get(published)
            if weight is None or tuple(weight.dims) != tuple(parameter.shape):
                found = "is missing" if weight is None else f"has shape {tuple(weight.dims)}"
                raise ModelFileCorrupt(f"weight {published} {found}, expected {tuple(parameter.shape)}")
            parameter.copy_(torch.from_numpy(numpy_helper.to_array(weight).astype(np.float32)))


def _published_name(name: str) -> str:
    """`stages.blocks.3.expand.weight` -> `_blocks.3._expand_conv.weight`; `stem.bias` -> `_conv_stem.bias`."""
    name = name.removeprefix("stages.")
    block = re.fullmatch(r"blocks\.(\d+)\.(\w+)\.(\w+)", name)
    return f"_blocks.{block[1]}._{block[2]}_conv.{block[3]}" if block else f"_conv_{name}"
