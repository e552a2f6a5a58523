"""The zoo: a directory with `<name>.onnx`, a card `<name>.toml` that says what the file is, and a page `<name>.md`.

A model is used only if its card can be read and the file has the sha256 that the card states.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from bowerbird.errors import ModelFileCorrupt, ModelNotFound

ZOO_VARIABLE = "BOWERBIRD_ZOO"
_PACKAGE_ROOT = Path(__file__).resolve().parent.parent
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_KINDS = ("embedder", "detector")
_CHANNEL_ORDERS = ("rgb", "bgr")


@dataclass(frozen=True)
class InputSpec:
    """How pictures become the model's input: squeezed to width x height, then (pixel - mean) / std.

    Attributes:
        width: in pixels.
        height: in pixels.
        channel_order: of the input's channels, of `mean` and of `std`.
        mean: of each channel, in units of 8-bit pixel values.
        std: likewise.
    """

    width: int
    height: int
    channel_order: Literal["rgb", "bgr"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class EmbedderSpec:
    """What an embedder gives: `embedding` of `dimension` floats, `code_projection` of `code_bits` floats."""

    dimension: int
    code_bits: int


@dataclass(frozen=True)
class DetectorSpec:
    """What a detector gives: for each anchor point class scores, and for each side a distribution of the distance.

    Attributes:
        labels: one for each score column.
        strides: pixels between anchor points of each level, in the order of the output.
        bins: of a distance distribution; bin i stands for i strides.
        min_score: detections below are left out unless the caller says otherwise.
        max_iou: overlap of two kept boxes of the same class.
    """

    labels: tuple[str, ...]
    strides: tuple[int, ...]
    bins: int
    min_score: float
    max_iou: float


@dataclass(frozen=True)
class ZooModel:
    """A model whose file was checked against its card."""

    name: str
    kind: Literal["embedder", "detector"]
    path: Path
    sha256: str
    licence: str
    attribution: str
    source: str
    input: InputSpec
    embedder: EmbedderSpec | None
    detector: DetectorSpec | None


def find_zoo(zoo_dir: Path | None = None) -> Path:
    """The directory of model files: `zoo_dir`, else `BOWERBIRD_ZOO`, else beside the package, else the checkout's."""
    if zoo_dir is not None and zoo_dir != Path():
        return zoo_dir
    if ZOO_VARIABLE in os.environ:
        return Path(os.environ[ZOO_VARIABLE]).expanduser()
    installed = _PACKAGE_ROOT / "zoo"
    return installed if installed.is_dir() else _PACKAGE_ROOT.parent.parent / "zoo"


def load(name: str, *, zoo_dir: Path | None = None) -> ZooModel:
    """The model of this name, its file checked.

    Args:
        name: stem of its files.
        zoo_dir: see `find_zoo`.
    Raises:
        ModelNotFound: the zoo has no such card.
        ModelFileCorrupt: the card cannot be read or lacks something, or the file is missing or not the one it states.
    """
    directory = find_zoo(zoo_dir)
    card = directory / f"{name}.toml"
    if not _NAME.fullmatch(name) or not card.is_file():
        known = ", ".join(sorted(path.stem for path in directory.glob("*.toml"))) or "none"
        raise ModelNotFound(f"no model named {name!r} in {directory}; known: {known}", field="model")
    try:
        model = _parse(tomllib.loads(card.read_text()), name, directory)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise ModelFileCorrupt(f"model card {card} cannot be used: {type(error).__name__}: {error}") from error
    _check_file(model)
    return model


def output_shapes(model: ZooModel) -> dict[str, tuple[int, ...]]:
    """The shape of each output for one picture, as the card implies it."""
    if model.embedder is not None:
        return {"embedding": (model.embedder.dimension,), "code_projection": (model.embedder.code_bits,)}
    assert model.detector is not None
    size, spec = model.input, model.detector
    points = sum((size.width // stride) * (size.height // stride) for stride in spec.strides)
    return {"scores": (points, len(spec.labels)), "distances": (points, 4 * spec.bins)}


def _check_file(model: ZooModel) -> None:
    try:
        digest = hashlib.sha256(model.path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelFileCorrupt(f"model file {model.path} cannot be read: {error.strerror}; restore it") from error
    if digest != model.sha256:
        raise ModelFileCorrupt(
            f"model file {model.path} has sha256 {digest}, its card states {model.sha256}; restore the file"
        )


def _parse(card: dict[str, Any], name: str, directory: Path) -> ZooModel:
    source = card["source"]
    model = ZooModel(
        name=name,
        kind=_choice(card, "kind", _KINDS),
        path=directory / f"{name}.onnx",
        sha256=_text(card, "sha256"),
        licence=_text(card, "licence"),
        attribution=_text(card, "attribution"),
        source=f"{_text(source, 'package')} {_text(source, 'version')}",
        input=_parse_input(card["input"]),
        embedder=_parse_numbers(EmbedderSpec, card["embedder"]) if "embedder" in card else None,
        detector=_parse_detector(card["detector"]) if "detector" in card else None,
    )
    if getattr(model, model.kind) is None:
        raise KeyError(model.kind)
    return model


def _parse_input(table: dict[str, Any]) -> InputSpec:
    spec = InputSpec(
        width=int(table["width"]),
        height=int(table["height"]),
        channel_order=_choice(table, "channel_order", _CHANNEL_ORDERS),
        mean=_triple(table, "mean"),
        std=_triple(table, "std"),
    )
    if spec.width < 1 or spec.height < 1 or min(spec.std) <= 0:
        raise ValueError("input width, height and std must be positive")
    return spec


def _parse_numbers(cls: type[EmbedderSpec], table: dict[str, Any]) -> EmbedderSpec:
    return cls(**{field.name: int(table[field.name]) for field in fields(cls)})


def _parse_detector(table: dict[str, Any]) -> DetectorSpec:
    spec = DetectorSpec(
        labels=tuple(str(label) for label in table["labels"]),
        strides=tuple(int(stride) for stride in table["strides"]),
        bins=int(table["bins"]),
        min_score=float(table["min_score"]),
        max_iou=float(table["max_iou"]),
    )
    if min((spec.bins, *spec.strides), default=0) < 1 or not (0 <= spec.min_score <= 1 and 0 <= spec.max_iou <= 1):
        raise ValueError("bins and strides must be positive, min_score and max_iou in [0, 1]")
    return spec


def _text(table: dict[str, Any], key: str) -> str:
    value = table[key]
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} must be a text that is not empty, got {value!r}")
    return value


def _choice(table: dict[str, Any], key: str, choices: tuple[str, ...]) -> Any:
    if table[key] not in choices:
        raise ValueError(f"{key} must be one of {', '.join(choices)}, got {table[key]!r}")
    return table[key]


def _triple(table: dict[str, Any], key: str) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in table[key])
    return first, second, third
