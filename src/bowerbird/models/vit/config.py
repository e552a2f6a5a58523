"""What a Vision Transformer is made of, and the presets. Imports no torch: a configuration can be read anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from bowerbird.errors import ConfigInvalid

Stem = Literal["patch", "conv", "efficientnet-lite0"]
Pool = Literal["class", "mean", "norm_of_mean"]
Activation = Literal["gelu", "gelu_tanh", "quick_gelu"]
PositionResize = Literal["bicubic", "bicubic_antialias", "bilinear"]
_CHOICES: dict[str, tuple[str, ...]] = {
    "stem": get_args(Stem),
    "pool": get_args(Pool),
    "activation": get_args(Activation),
    "position_resize": get_args(PositionResize),
}


@dataclass(frozen=True)
class VitConfig:
    """A Vision Transformer (Dosovitskiy et al. 2021), its variants as options.

    Attributes:
        width: D, of every token.
        depth: blocks.
        heads: of attention; divides the width.
        mlp_ratio: hidden units of a block's perceptron, as a multiple of the width.
        patch_size: in pixels; of the stems other than "patch" the stride, a power of two.
        image_size: (height, width) in pixels of the stored grid of positions; other sizes interpolate it.
        stem: "patch" is one linear map a patch; "conv" is a stack of 3x3 convolutions (Xiao et al. 2021);
            "efficientnet-lite0" is the front of that network, a hybrid (Dosovitskiy et al. 2021, section 3.1).
        patch_stride: pixels between patches; None is patch_size, less makes them overlap (ViT-FRCNN). Of "patch" only.
        class_token: whether a learned token stands before the patches.
        registers: further learned tokens that nothing reads (Darcet et al. 2024).
        pool: the picture's vector: the normalised class token, the mean of the normalised patches, or the
            normalised mean of the patches.
        qkv_bias: of the maps to queries, keys and values.
        layer_scale: start of the learned factors on each branch (Touvron et al. 2021); None is without.
        drop_path: probability to skip a branch of the last block; it grows linearly from 0 at the first.
        activation: "gelu" is exact, "gelu_tanh" its approximation, "quick_gelu" is x * sigmoid(1.702 x) (CLIP).
        pre_norm: a LayerNorm before the first block (CLIP).
        norm_epsilon: of every LayerNorm.
        position_resize: how positions are interpolated: timm, open_clip and DINOv2 with registers smooth when
            shrinking ("bicubic_antialias"), DINOv2 without them and Hugging Face do not ("bicubic").
    """

    width: int = 192
    depth: int = 12
    heads: int = 3
    mlp_ratio: float = 4.0
    patch_size: int = 16
    image_size: tuple[int, int] = (224, 224)
    stem: Stem = "patch"
    patch_stride: int | None = None
    class_token: bool = True
    registers: int = 0
    pool: Pool = "class"
    qkv_bias: bool = True
    layer_scale: float | None = None
    drop_path: float = 0.0
    activation: Activation = "gelu"
    pre_norm: bool = False
    norm_epsilon: float = 1e-6
    position_resize: PositionResize = "bicubic"

    def __post_init__(self) -> None:
        least = {"width": 1, "depth": 1, "heads": 1, "patch_size": 1, "stride": 1, "registers": 0}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ConfigInvalid(f"{name} must be at least {minimum}, got {getattr(self, name)}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigInvalid(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if self.width % self.heads:
            raise ConfigInvalid(f"heads must divide width, got {self.heads} heads and width {self.width}")
        if not 0 <= self.drop_path < 1:
            raise ConfigInvalid(f"drop_path must be in [0, 1), got {self.drop_path}")
        if self.pool == "class" and not self.class_token:
            raise ConfigInvalid('pool "class" needs class_token = true')
        self._check_stem()
        self.grid_of(*self.image_size)

    def _check_stem(self) -> None:
        if self.stem == "patch":
            return
        if self.patch_stride not in (None, self.patch_size):
            raise ConfigInvalid(f'patch_stride is of stem "patch" only; stem {self.stem!r} has stride patch_size')
        sizes = (2, 4, 8, 16, 32)
        if self.patch_size not in sizes:
            raise ConfigInvalid(f"patch_size of stem {self.stem!r} must be one of {sizes}, got {self.patch_size}")

    @property
    def stride(self) -> int:
        """Pixels between the corners of neighbouring patches."""
        return self.patch_size if self.patch_stride is None else self.patch_stride

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the stored positions."""
        return self.grid_of(*self.image_size)

    @property
    def prefix(self) -> int:
        """Tokens before the patches: the class token and the registers."""
        return int(self.class_token) + self.registers

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of patches of a picture of this size in pixels.

        Raises:
            ConfigInvalid: the patches do not cover the picture exactly.
        """
        for size in (height, width):
            if size < self.patch_size or (size - self.patch_size) % self.stride:
                raise ConfigInvalid(
                    f"a picture of {height} x {width} pixels cannot be cut into patches of {self.patch_size} "
                    f"every {self.stride}; take sides that are {self.patch_size} plus a multiple of {self.stride}"
                )
        return (height - self.patch_size) // self.stride + 1, (width - self.patch_size) // self.stride + 1

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON types."""
        return asdict(self) | {"image_size": list(self.image_size)}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> VitConfig:
        """The configuration of `to_dict`, or of a TOML table; `preset` names what the other keys change.

        Raises:
            ConfigInvalid: an unknown key or preset, or a value that is not allowed.
        """
        values = dict(table)
        name = values.pop("preset", None)
        if name is not None and name not in PRESETS:
            raise ConfigInvalid(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
        unknown = sorted(values.keys() - {field.name for field in fields(cls)})
        if unknown:
            raise ConfigInvalid(f"unknown keys of a Vision Transformer: {', '.join(unknown)}")
        if "image_size" in values:
            size = values["image_size"]
            height, width = (size, size) if isinstance(size, int) else size
            values["image_size"] = (int(height), int(width))
        return replace(PRESETS[name] if name is not None else cls(), **values)


# Ti, S, B, L: Dosovitskiy et al. 2021, table 1, and Touvron et al. 2021 (DeiT), table 1. The small ones are for
# training on a processor.
PRESETS: dict[str, VitConfig] = {
    "vit-nano": VitConfig(width=64, depth=4, heads=2, patch_size=8, image_size=(32, 32)),
    "vit-micro": VitConfig(width=128, depth=6, heads=4, patch_size=8, image_size=(64, 64)),
    "vit-mini": VitConfig(width=192, depth=6, heads=3, patch_size=8, image_size=(64, 64)),
    "vit-ti": VitConfig(width=192, depth=12, heads=3),
    "vit-s": VitConfig(width=384, depth=12, heads=6),
    "vit-b": VitConfig(width=768, depth=12, heads=12),
    "vit-l": VitConfig(width=1024, depth=24, heads=16),
}
