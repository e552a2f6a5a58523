"""The zoo: a directory with `<name>.onnx`, a card `<name>.toml` that says what the file is, and a page `<name>.md`.

An embedder may have heads, which give scores for labels; the labels stand in `<name>.labels.json`, an object with a
list of labels for each head. A model is used only if its card can be read and each file has the sha256 that the card
states.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bowerbird.errors import ModelFileCorrupt, ModelNotFound

ZOO_VARIABLE = "BOWERBIRD_ZOO"
_PACKAGE_ROOT = Path(__file__).resolve().parent.parent
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_KINDS = ("embedder", "detector")
_CHANNEL_ORDERS = ("rgb", "bgr")
_HEAD_KINDS = ("classes", "multilabel")
RESERVED_HEADS = ("*", "embedding", "code", "attributes")  # what requests call something else than a head
CODE_BITS_STEP = 64  # indexes keep codes in words of 64 bits


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
class HeadSpec:
    """A head of an embedder: one raw number a label, which becomes a score in [0, 1].

    Attributes:
        name: what requests call it, e.g. `category`.
        kind: `classes`: one label holds, scores are softmax(output / temperature) and sum to 1;
            `multilabel`: any number hold, each score is sigmoid(output / temperature + bias).
        output: name of the model's output, (N, labels) float32.
        labels: one a column, none twice.
        temperature: positive.
        bias: of `multilabel`, 0 for `classes`.
        min_score: labels below are left out unless the caller says otherwise.
    """

    name: str
    kind: Literal["classes", "multilabel"]
    output: str
    labels: tuple[str, ...]
    temperature: float
    bias: float
    min_score: float


@dataclass(frozen=True)
class EmbedderSpec:
    """What an embedder gives: `embedding` of `dimension` floats, `code_projection` of `code_bits` floats, and heads.

    The code is the sign of `code_projection`, which may be the embedding itself.
    """

    dimension: int
    code_bits: int
    heads: tuple[HeadSpec, ...] = ()


@dataclass(frozen=True)
class TrainingData:
    """Pictures or labels that a model learned from."""

    source: str
    licence: str


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
    """A model whose files were checked against its card.

    Attributes:
        network: what computes, for people; empty where the card leaves it to the page.
        training_data: what it learned from; empty likewise.
    """

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
    network: str = ""
    training_data: tuple[TrainingData, ...] = ()


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
        ModelFileCorrupt: the card cannot be read or lacks something, or a file is missing or not the one it states.
    """
    directory = find_zoo(zoo_dir)
    card = directory / f"{name}.toml"
    if not _NAME.fullmatch(name) or not card.is_file():
        known = ", ".join(sorted(path.stem for path in directory.glob("*.toml"))) or "none"
        raise ModelNotFound(f"no model named {name!r} in {directory}; known: {known}", field="model")
    try:
        model = _parse(tomllib.loads(card.read_text()), name, directory)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelFileCorrupt(f"model card {card} cannot be used: {type(error).__name__}: {error}") from error
    _check_file(model)
    return model


def output_shapes(model: ZooModel) -> dict[str, tuple[int, ...]]:
    """The shape of each output for one picture, as the card implies it."""
    if model.embedder is not None:
        heads = {head.output: (len(head.labels),) for head in model.embedder.heads}
        return {"embedding": (model.embedder.dimension,), "code_projection": (model.embedder.code_bits,), **heads}
    assert model.detector is not None
    size, spec = model.input, model.detector
    points = sum((size.width // stride) * (size.height // stride) for stride in spec.strides)
    return {"scores": (points, len(spec.labels)), "distances": (points, 4 * spec.bins)}


def labels_path(model_path: Path) -> Path:
    """Where the labels of a model's heads stand."""
    return model_path.with_name(f"{model_path.stem}.labels.json")


def _check_file(model: ZooModel) -> None:
    _read_stated(model.path, model.sha256)


def _read_stated(path: Path, sha256: str) -> bytes:
    """The content of a file that the card vouches for.

    Raises:
        ModelFileCorrupt: it cannot be read, or is another.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileCorrupt(f"model file {path} cannot be read: {error.strerror}; restore it") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise ModelFileCorrupt(f"model file {path} has sha256 {digest}, its card states {sha256}; restore the file")
    return content


def _parse(card: dict[str, Any], name: str, directory: Path) -> ZooModel:
    source = card["source"]
    path = directory / f"{name}.onnx"
    model = ZooModel(
        name=name,
        kind=_choice(card, "kind", _KINDS),
        path=path,
        sha256=_text(card, "sha256"),
        licence=_text(card, "licence"),
        attribution=_text(card, "attribution"),
        source=f"{_text(source, 'package')} {_text(source, 'version')}",
        input=_parse_input(card["input"]),
        embedder=_parse_embedder(card, path) if "embedder" in card else None,
        detector=_parse_detector(card["detector"]) if "detector" in card else None,
        network=_text(card, "network") if "network" in card else "",
        training_data=tuple(
            TrainingData(_text(entry, "source"), _text(entry, "licence")) for entry in card.get("training_data", ())
        ),
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


def _parse_embedder(card: dict[str, Any], path: Path) -> EmbedderSpec:
    table = card["embedder"]
    dimension, code_bits = int(table["dimension"]), int(table["code_bits"])
    if dimension < 1 or code_bits < 1 or code_bits % CODE_BITS_STEP:
        raise ValueError(f"dimension must be positive and code_bits a multiple of {CODE_BITS_STEP}")
    return EmbedderSpec(dimension, code_bits, _parse_heads(card, path) if "heads" in card else ())


def _parse_heads(card: dict[str, Any], path: Path) -> tuple[HeadSpec, ...]:
    content = _read_stated(labels_path(path), _text(card["labels"], "sha256"))
    labels = json.loads(content)
    heads = tuple(_parse_head(name, table, labels) for name, table in card["heads"].items())
    outputs = [head.output for head in heads]
    if set(labels) != {head.name for head in heads} or len(set(outputs)) < len(outputs):
        raise ValueError(f"the heads must have outputs of their own, and be those of {labels_path(path).name}")
    return heads


def _parse_head(name: str, table: dict[str, Any], labels: dict[str, Any]) -> HeadSpec:
    head = HeadSpec(
        name=name,
        kind=_choice(table, "kind", _HEAD_KINDS),
        output=_text(table, "output"),
        labels=tuple(str(label) for label in labels[name]),
        temperature=float(table.get("temperature", 1.0)),
        bias=float(table.get("bias", 0.0)),
        min_score=float(table.get("min_score", 0.0)),
    )
    if not name or name in RESERVED_HEADS:
        raise ValueError(f"a head must not be named {name!r}")
    if not head.labels or len(set(head.labels)) < len(head.labels) or not all(head.labels):
        raise ValueError(f"head {name} must have labels that are not empty, none twice")
    if not (0 < head.temperature < math.inf and math.isfinite(head.bias) and 0 <= head.min_score <= 1):
        raise ValueError(f"head {name} must have a positive temperature, a finite bias and min_score in [0, 1]")
    if head.kind == "classes" and head.bias:
        raise ValueError(f"head {name} is of classes, which have no bias")
    return head


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
