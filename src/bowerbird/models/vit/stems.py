"""From pixels to patch tokens. Every stem maps (B, 3, H, W) to (B, D, rows, columns)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from bowerbird.models.efficientnet import EfficientNetStages
from bowerbird.models.vit.config import VitConfig


def build_stem(config: VitConfig) -> nn.Module:
    """The stem that the configuration names."""
    return {"patch": PatchStem, "conv": ConvStem, "efficientnet-lite0": HybridStem}[config.stem](config)


class PatchStem(nn.Module):
    """One linear map of the pixels of a patch, written as a convolution; patches overlap if the stride is smaller."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, config.width, config.patch_size, config.stride)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D, rows, columns)."""
        return self.projection(pictures)


class ConvStem(nn.Module):
    """3x3 convolutions of stride 2 that double the channels, then a 1x1 (Xiao et al. 2021, section 4).

    Deviation: group normalisation instead of batch normalisation. It has no running statistics, so that state on disk
    does not depend on the number of processes and a picture's tokens not on its neighbours in the batch.
    """

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        steps = int(math.log2(config.patch_size))
        channels = [max(8, config.width >> (steps - 1 - step)) for step in range(steps)]
        layers: list[nn.Module] = []
        for before, after in zip([3, *channels], channels, strict=False):
            groups = math.gcd(after, max(1, after // 16))
            layers += [nn.Conv2d(before, after, 3, 2, padding=1, bias=False), nn.GroupNorm(groups, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.projection = nn.Conv2d(channels[-1], config.width, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D, rows, columns)."""
        return self.projection(self.layers(pictures))


class HybridStem(nn.Module):
    """EfficientNet-lite0 up to the stride of a patch, then a 1x1 convolution.

    Its pictures are those of the zoo's model: (pixel - 127) / 128. `bowerbird.models.efficientnet.load_zoo_weights`
    gives `features` the published weights.
    """

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.features = EfficientNetStages(config.patch_size)
        self.projection = nn.Conv2d(self.features.channels, config.width, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D, rows, columns)."""
        return self.projection(self.features(pictures))
