"""What a Vision Transformer may be made of."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'bowerbird[train]'")

from bowerbird.errors import ConfigInvalid
from bowerbird.models.vit import PRESETS, VitConfig


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_the_round_trip(name: str) -> None:
    """What to_dict gives, from_dict takes, and a preset can be asked for by name."""
    config = PRESETS[name]

    assert VitConfig.from_dict(config.to_dict()) == config
    assert VitConfig.from_dict({"preset": name}) == config
    assert VitConfig.from_dict({"preset": name, "depth": 2}).depth == 2


def test_one_number_is_a_square() -> None:
    """image_size = 96 in a TOML file means 96 x 96."""
    assert VitConfig.from_dict({"image_size": 96}).image_size == (96, 96)
    assert VitConfig.from_dict({"image_size": [64, 96]}).grid == (4, 6)


def test_patches_may_overlap() -> None:
    """Half the stride gives twice the rows, less one."""
    assert VitConfig(image_size=(64, 96), patch_stride=8).grid == (7, 11)


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"deepness": 3}, "unknown keys of a Vision Transformer: deepness"),
        ({"preset": "vit-xxl"}, "unknown preset 'vit-xxl'; known: vit-nano"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"registers": -1}, "registers must be at least 0, got -1"),
        ({"patch_stride": 0}, "stride must be at least 1"),
        ({"width": 100}, "heads must divide width, got 3 heads and width 100"),
        ({"drop_path": 1.0}, r"drop_path must be in \[0, 1\)"),
        ({"activation": "relu"}, "activation must be one of gelu, gelu_tanh, quick_gelu, got 'relu'"),
        ({"class_token": False}, 'pool "class" needs class_token'),
        ({"image_size": 100}, "100 x 100 pixels cannot be cut into patches of 16 every 16"),
        ({"image_size": 8}, "8 x 8 pixels cannot be cut"),
        ({"stem": "conv", "patch_stride": 8}, "patch_stride is of stem"),
        ({"stem": "conv", "patch_size": 14}, "patch_size of stem 'conv' must be one of"),
    ],
)
def test_nonsense_is_refused(table: dict[str, Any], complaint: str) -> None:
    """The message says what was expected."""
    with pytest.raises(ConfigInvalid, match=complaint):
        VitConfig.from_dict(table)
