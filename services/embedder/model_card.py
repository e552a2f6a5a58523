"""The files beside an exported model: the card that the zoo reads, the labels, and the page for people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bowerbird.models import zoo
from bowerbird.models.vit import VitConfig

from .calibration import Calibration
from .model import ModelConfig, TaskSpec
from .serving_graph import Parity


@dataclass(frozen=True)
class Facts:
    """What the files say.

    Attributes:
        weights: how they are stored.
        parity: of the file that is written.
        trained_on: licence by source.
        head_names: what requests call a task's head; those not here have the task's name.
        calibrations: by task.
        measures: on validation pictures in training, by `<task>/<measure>`.
        notes: further sections of the page, by heading.
    """

    name: str
    config: ModelConfig
    step: int
    parameters: int
    weights: str
    parity: Parity
    licence: str
    attribution: str
    trained_on: Mapping[str, str]
    head_names: Mapping[str, str]
    calibrations: Mapping[str, Calibration]
    measures: Mapping[str, float]
    notes: Mapping[str, str]


def describe_network(config: VitConfig) -> str:
    """`Vision Transformer, width 192, 6 layers, 3 heads, 64 x 64 in patches of 8, patch stem`."""
    height, width = config.image_size
    return (
        f"Vision Transformer, width {config.width}, {config.depth} layers, {config.heads} heads, "
        f"{width} x {height} in patches of {config.patch_size}, {config.stem} stem"
    )


def write(folder: Path, content: bytes, facts: Facts) -> zoo.ZooModel:
    """The model as the zoo loads it, after all its files are in `folder`.

    The card comes last and vouches for the others, so a reader finds the whole model or, for a moment, one it refuses.
    A page that is there stays: people wrote in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{facts.name}.onnx"
    labels = json.dumps(
        {_head_name(facts, task): list(task.labels) for task in facts.config.tasks}, ensure_ascii=False, indent=1
    ).encode()
    _replace(path, content)
    if facts.config.tasks:
        _replace(zoo.labels_path(path), labels + b"\n")
    page = path.with_suffix(".md")
    if not page.exists():
        _replace(page, render_page(facts, len(content)).encode())
    sha256 = hashlib.sha256(content).hexdigest()
    _replace(path.with_suffix(".toml"), render_card(facts, sha256, hashlib.sha256(labels + b"\n").hexdigest()).encode())
    return zoo.load(facts.name, zoo_dir=folder)


def render_card(facts: Facts, sha256: str, labels_sha256: str) -> str:
    """The card as TOML."""
    config, parity = facts.config, facts.parity
    height, width = config.backbone.image_size
    lines = [
        f"# {describe_network(config.backbone)}. The page for people is {facts.name}.md.",
        'kind = "embedder"',
        f"sha256 = {_text(sha256)}",
        f"licence = {_text(facts.licence)}",
        f"attribution = {_text(facts.attribution)}",
        f"network = {_text(describe_network(config.backbone))}",
        *_table(
            "source",
            package="trained by Bowerbird",
            version=f"step {facts.step}",
            made_by="python -m services.embedder.train; python -m services.embedder.export",
        ),
        *_table(
            "input",
            width=width,
            height=height,
            channel_order="rgb",
            mean=list(config.mean),
            std=list(config.std),
        ),
        *_table("embedder", dimension=config.dimension, code_bits=config.dimension),
    ]
    for source, licence in facts.trained_on.items():
        lines += ["", "[[training_data]]", f"source = {_text(source)}", f"licence = {_text(licence)}"]
    if config.tasks:
        lines += _table("labels", sha256=labels_sha256)
    for task in config.tasks:
        lines += _table(f"heads.{_text(_head_name(facts, task))}", **_describe_head(task, facts.calibrations))
    lines += _table(
        "numbers",
        parameters=facts.parameters,
        max_difference_float32=float(f"{parity.max_difference_float32:.2g}"),
        max_difference=float(f"{parity.max_difference:.2g}"),
        max_logit_difference=float(f"{parity.max_logit_difference:.2g}"),
        code_agreement=round(parity.code_agreement, 5),
    )
    if facts.measures:
        lines.append("# on the validation pictures, by which the weights were chosen; so a little too good")
        lines += [f"{name.replace('/', '_')} = {round(value, 4)!r}" for name, value in facts.measures.items()]
    return "\n".join(lines) + "\n"


def render_page(facts: Facts, size_bytes: int) -> str:
    """The page for people, with what is known; its author adds what the numbers mean."""
    config, parity = facts.config, facts.parity
    rows = {
        "network": describe_network(config.backbone),
        "licence": facts.licence,
        "parameters": f"{facts.parameters / 1e6:.1f} million, {facts.weights} ({size_bytes / 1e6:.1f} MB)",
        "input": f"{config.backbone.image_size[1]} x {config.backbone.image_size[0]} RGB, squeezed",
        "`embedding`": f"{config.dimension} floats of unit length",
        "`code_projection`": f"the embedding before that; its signs are the {config.dimension}-bit code",
    }
    lines = [f"# {facts.name}", "", "Turns a picture into a vector, a code and labels.", "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    lines += ["", "## Trained on", "", "| source | licence |", "| --- | --- |"]
    lines += [f"| {source} | {licence} |" for source, licence in facts.trained_on.items()]
    if config.tasks:
        lines += ["", "## Heads", "", "| head | labels | scores fitted on | calibration error before | after |"]
        lines += ["| --- | --- | --- | --- | --- |", *(_head_row(facts, task) for task in config.tasks)]
    if facts.calibrations:
        lines += ["", "Both errors are of the very pictures that the scores were fitted on."]
    lines += [
        "",
        "## Made by",
        "",
        "    python -m services.embedder.train CONFIG",
        f"    python -m services.embedder.export RUN --name {facts.name}",
        "",
        _describe_parity(parity),
    ]
    for heading, text in facts.notes.items():
        lines += ["", f"## {heading}", "", text]
    if any("tone" in _head_name(facts, task) for task in config.tasks):
        lines += [
            "",
            "## Limits",
            "",
            "The drawn skin tone is learned from drawings and says nothing about people. Do not use it on photographs.",
        ]
    return "\n".join(lines) + "\n"


def _describe_parity(parity: Parity) -> str:
    return (
        "Compared with the network in torch on batches of 1, 3 and 8, components of the embedding differ by at most "
        f"**{parity.max_difference_float32:.1e}** with float32 weights and by at most **{parity.max_difference:.1e}** "
        f"in the stored file, whose weights are rounded; {parity.code_agreement:.2%} of the code bits agree."
    )


def _head_row(facts: Facts, task: TaskSpec) -> str:
    found = facts.calibrations.get(task.name, Calibration())
    fitted = f"{found.pictures:,} pictures | {found.error_before:.3f} | {found.error_after:.3f}"
    return f"| {_head_name(facts, task)} | {len(task.labels):,} | {fitted if found.pictures else 'nothing | |'} |"


def _describe_head(task: TaskSpec, calibrations: Mapping[str, Calibration]) -> dict[str, Any]:
    found = calibrations.get(task.name, Calibration())
    bias = {"bias": found.bias} if task.kind == "multilabel" else {}
    return {
        "kind": task.kind,
        "output": f"head_{task.name}",
        "temperature": found.temperature,
        **bias,
        "min_score": found.min_score,
    }


def _head_name(facts: Facts, task: TaskSpec) -> str:
    return facts.head_names.get(task.name, task.name)


def _table(name: str, **values: Any) -> list[str]:
    return ["", f"[{name}]", *(f"{key} = {_value(value)}" for key, value in values.items())]


def _value(value: object) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value)


def _text(value: str) -> str:
    """A basic string of TOML, which takes all escapes that JSON writes."""
    return json.dumps(value, ensure_ascii=False)


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
