"""The configuration of training: a TOML file, one dataclass a table, every mistake named before anything is computed.

seed = 0
output = "runs/embedder"
[data] [model] [optimizer] [validation] [distill] [augmentation]  and  [[task]], one a task
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bowerbird import config
from bowerbird.errors import ConfigInvalid
from bowerbird.models.vit import VitConfig
from bowerbird.training import precision
from bowerbird.training.augment import AugmentConfig

UNSET = Path()
DEFAULT_AUGMENTATION = "light"
MEASURES = {  # of validation, the first of which sums a task up
    "metric": ("p_at_1", "r_at_10", "binary_p_at_1"),
    "classes": ("accuracy",),
    "multilabel": ("map", "r_at_10"),
}
DEFAULT_LOSS = {"metric": "softmax", "classes": "softmax", "multilabel": "khot"}


def _require(holds: bool, name: str, expected: str, value: object) -> None:
    if not holds:
        raise ConfigInvalid(f"{name}: expected {expected}, got {value!r}")


@dataclass(frozen=True)
class DataConfig:
    """Section [data].

    Attributes:
        table: Parquet, JSON lines or CSV file with a row a picture, a tar shard or a folder of them; relative to where
            the command runs.
        root: of the pictures' paths; empty: the table's folder.
        picture_column: holds the paths.
        split_column: says `train`, `validation` or `test`; empty: every picture trains.
        image_size: side of the model's input, pixels; `image_size = [height, width]` of [model] goes before it.
        mean: subtracted from each channel, in units of 0 to 255.
        std: then divided by.
        workers: threads that decode and augment beside the training step; 0: none, the step waits.
        cache_mib: of decoded pictures kept in memory.
        share: of the training pictures that are used, in (0, 1]: the first of them in a random order that only the
            seed decides, so that a smaller share is part of a larger one.
    """

    table: Path
    root: Path = UNSET
    picture_column: str = "picture"
    split_column: str = "split"
    image_size: int = 64
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    workers: int = 1
    cache_mib: int = 1024
    share: float = 1.0

    def __post_init__(self) -> None:
        _require(self.image_size >= 8, "[data] image_size", "8 or more pixels", self.image_size)
        _require(len(self.mean) == len(self.std) == 3, "[data] mean, std", "three numbers each", (self.mean, self.std))
        _require(min(self.std) > 0, "[data] std", "numbers above 0", self.std)
        _require(0 <= self.workers <= 64, "[data] workers", "0 to 64", self.workers)
        _require(self.cache_mib >= 0, "[data] cache_mib", "0 or more", self.cache_mib)
        _require(0 < self.share <= 1, "[data] share", "a share in (0, 1]", self.share)


@dataclass(frozen=True)
class OptimizerConfig:
    """Section [optimizer]: AdamW.

    Attributes:
        steps: of the whole run.
        batch_size: pictures a step over all ranks, shared equally by the tasks.
        micro_batch_size: pictures a rank computes at once; gradients add up; 0: its whole part of the batch.
        learning_rate: at the peak; of the embedding and the heads.
        backbone_rate: factor of the learning rate for the backbone.
        head_rate: factor of the learning rate for the heads.
        stem_rate: factor, beside that of the backbone, for the convolutions that stem "efficientnet-lite0" starts from;
            0: they stay as they are, which saves their backward pass.
        weight_decay: of all but norms, biases, tokens and positions.
        beta2: of the second moment.
        warmup: share of the steps in which the learning rate rises.
        layer_decay: factor of the learning rate from a layer of the backbone to the one below.
        ema: what a step keeps of the averaged weights; 0: no average.
        clip_norm: of the gradients; 0: none.
        precision: auto, fp32 or bf16.
        compile: whether to compile the network first, which takes a minute and needs a C++ compiler.
        threads: of this process; 0: as many as it may use, shared among the ranks of this machine.
        device: auto, cpu or cuda.
        log_every: steps from one line of metrics.jsonl to the next.
        save_every: steps from one state to the next.
        keep: states that stay.
    """

    steps: int = 2000
    batch_size: int = 128
    micro_batch_size: int = 0
    learning_rate: float = 1e-3
    backbone_rate: float = 1.0
    head_rate: float = 1.0
    stem_rate: float = 1.0
    weight_decay: float = 0.05
    beta2: float = 0.98
    warmup: float = 0.05
    layer_decay: float = 1.0
    ema: float = 0.998
    clip_norm: float = 1.0
    precision: str = "auto"
    compile: bool = False
    threads: int = 0
    device: str = "auto"
    log_every: int = 10
    save_every: int = 500
    keep: int = 2

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "save_every", "keep"):
            _require(getattr(self, name) >= 1, f"[optimizer] {name}", "1 or more", getattr(self, name))
        for name in ("micro_batch_size", "weight_decay", "clip_norm", "threads", "backbone_rate", "stem_rate"):
            _require(getattr(self, name) >= 0, f"[optimizer] {name}", "0 or more", getattr(self, name))
        _require(self.learning_rate > 0, "[optimizer] learning_rate", "a number above 0", self.learning_rate)
        _require(self.head_rate > 0, "[optimizer] head_rate", "a number above 0", self.head_rate)
        _require(0 < self.beta2 < 1, "[optimizer] beta2", "a number between 0 and 1", self.beta2)
        _require(0 <= self.warmup <= 1, "[optimizer] warmup", "a share of the steps", self.warmup)
        _require(0 < self.layer_decay <= 1, "[optimizer] layer_decay", "a factor in (0, 1]", self.layer_decay)
        _require(0 <= self.ema < 1, "[optimizer] ema", "0 or more, below 1", self.ema)
        choices = ", ".join(precision.CHOICES)
        _require(self.precision in precision.CHOICES, "[optimizer] precision", choices, self.precision)
        _require(self.device in ("auto", "cpu", "cuda"), "[optimizer] device", "auto, cpu or cuda", self.device)


@dataclass(frozen=True)
class ValidationConfig:
    """Section [validation].

    Attributes:
        every: steps from one validation to the next; 0: never.
        max_pictures: that are looked at, spread over the split.
        best_by: the measure that decides which weights are kept, such as `concept/p_at_1`; empty: the mean of the
            first measure of each task.
    """

    every: int = 500
    max_pictures: int = 2000
    best_by: str = ""

    def __post_init__(self) -> None:
        _require(self.every >= 0, "[validation] every", "0 or more", self.every)
        _require(self.max_pictures >= 2, "[validation] max_pictures", "2 or more", self.max_pictures)


@dataclass(frozen=True)
class DistillConfig:
    """Section [distill]: at first, the embedding also has to predict that of another model.

    Attributes:
        teacher: name of a model of the zoo, or a .npy file with a row a row of the table; empty: none.
        weight: of its loss at the start; it falls linearly to 0.
        steps: until then; 0: the whole run.
    """

    teacher: str = ""
    weight: float = 1.0
    steps: int = 0

    def __post_init__(self) -> None:
        _require(self.weight > 0, "[distill] weight", "a number above 0", self.weight)
        _require(self.steps >= 0, "[distill] steps", "0 or more", self.steps)


@dataclass(frozen=True)
class TaskConfig:
    """One table [[task]].

    Attributes:
        name: of the task; of its output in the exported model.
        kind: metric, classes or multilabel.
        column: of the table; empty: the task's name.
        weights: column of confidences, one for each label; empty: none.
        labels: in their order; empty: all of the training pictures.
        min_pictures: a label on fewer training pictures is left out.
        loss: softmax; for multilabel khot or sigmoid.
        weight: of the loss in the sum.
        sample_rate: share of the labels that compete in a step.
        corrected: False leaves the scores of a sample uncorrected for its drawing; to measure what that costs.
        per_class: pictures of each label in the task's part of a batch; 0: pictures come as they come.
        tail_threshold: labels on a smaller share of the pictures than this come more often; 0: they do not.
        balance: beta of the class-balanced loss, in [0, 1); 0: all labels count alike.
        keep_colour: True: augmentation leaves the colours of pictures with a label of the task, which they tell, alone.
        draws: False: no part of the batch is the task's own; it learns from pictures that come for other tasks.
    """

    name: str
    kind: str
    column: str = ""
    weights: str = ""
    labels: tuple[str, ...] = ()
    min_pictures: int = 1
    loss: str = ""
    weight: float = 1.0
    sample_rate: float = 1.0
    corrected: bool = True
    per_class: int = 0
    tail_threshold: float = 0.0
    balance: float = 0.0
    keep_colour: bool = False
    draws: bool = True

    def __post_init__(self) -> None:
        where = f"[[task]] {self.name}"
        _require(self.kind in DEFAULT_LOSS, f"{where} kind", ", ".join(DEFAULT_LOSS), self.kind)
        _require(self.weight > 0, f"{where} weight", "a number above 0", self.weight)
        _require(self.min_pictures >= 1, f"{where} min_pictures", "1 or more", self.min_pictures)
        _require(self.per_class >= 0, f"{where} per_class", "0 or more", self.per_class)
        _require(0 <= self.tail_threshold <= 1, f"{where} tail_threshold", "a share", self.tail_threshold)
        _require(0 <= self.balance < 1, f"{where} balance", "0 or more, below 1", self.balance)
        multilabel = self.kind == "multilabel"
        _require(not (multilabel and self.per_class), f"{where} per_class", "no number for multilabel", self.per_class)
        _require(multilabel or not self.weights, f"{where} weights", "no column unless multilabel", self.weights)
        _require(self.kind == "classes" or not self.balance, f"{where} balance", "0 unless classes", self.balance)


@dataclass(frozen=True)
class TrainConfig:
    """All of it.

    Attributes:
        backbone: the Vision Transformer of section [model]: `preset` and any of its keys.
        dimension: of the embedding, and bits of its code; also of section [model].
        init: weights to start the backbone from, a safetensors file or the directory of another run; likewise. Where
            it is empty, the stem "efficientnet-lite0" starts from the zoo's network; its own pictures are
            (pixel - 127) / 128.
        augmentation: `preset` (none, light, strong) and changes of it.
    """

    data: DataConfig
    tasks: tuple[TaskConfig, ...]
    backbone: VitConfig
    dimension: int = 256
    init: str = ""
    optimizer: OptimizerConfig = OptimizerConfig()
    validation: ValidationConfig = ValidationConfig()
    distill: DistillConfig = DistillConfig()
    augmentation: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    output: Path = Path("runs/embedder")

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed", "0 or more", self.seed)
        whole = [task for task in self.tasks if task.kind != "multilabel" or task.sample_rate == 1]  # else not measured
        known = [f"{task.name}/{measure}" for task in whole for measure in MEASURES[task.kind]]
        best = self.validation.best_by
        _require(best in ("", *known), "[validation] best_by", f"one of {', '.join(known)}", best)
        self.make_augmentation()  # refuses what it does not know

    def make_augmentation(self) -> AugmentConfig:
        """Section [augmentation]."""
        changes = {"preset": DEFAULT_AUGMENTATION, **self.augmentation}
        return AugmentConfig.from_preset(changes.pop("preset"), **changes)

    def to_dict(self) -> dict[str, Any]:
        """With all defaults, as JSON values."""
        document: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self), default=str))
        return document


def read(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """The configuration in a TOML file.

    Args:
        overrides: `section.key=value`, or `task.<name>.key=value`; the value as in TOML, or bare text.
    Raises:
        ConfigInvalid: it cannot be read, or something in it is unknown, missing or out of range.
    """
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigInvalid(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path} is not valid TOML: {error}") from error
    for override in overrides:
        _apply(document, override)
    return _build(document)


def _build(document: dict[str, Any]) -> TrainConfig:
    sections = {
        "data": DataConfig,
        "optimizer": OptimizerConfig,
        "validation": ValidationConfig,
        "distill": DistillConfig,
    }
    known = {*sections, "model", "augmentation", "task", "seed", "output"}
    if unknown := sorted(set(document) - known):
        raise ConfigInvalid(f"unknown section or key {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    tables = {name: _table(document, name) for name in (*sections, "model", "augmentation")}
    parts: dict[str, Any] = {
        name: cls(**config.convert(cls, tables[name], f"[{name}]")) for name, cls in sections.items()
    }
    tasks = _list_tasks(document)
    own: dict[str, Any] = {key: document[key] for key in ("seed", "output") if key in document}
    own.update({key: tables["model"].pop(key) for key in ("dimension", "init") if key in tables["model"]})
    tables["model"].setdefault("image_size", parts["data"].image_size)
    return TrainConfig(
        **parts,
        **config.convert(_Scalars, own, "[model] or top level:"),
        tasks=tuple(TaskConfig(**config.convert(TaskConfig, task, "[[task]]")) for task in tasks),
        backbone=VitConfig.from_dict(tables["model"]),
        augmentation=tables["augmentation"],
    )


@dataclass(frozen=True)
class _Scalars:
    """Types of what stands outside the sections, or beside the keys of the Vision Transformer."""

    seed: int = 0
    output: Path = UNSET
    dimension: int = 0
    init: str = ""


def _list_tasks(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    tasks = document.get("task", [])
    if not isinstance(tasks, list) or not tasks or not all(isinstance(task, dict) for task in tasks):
        raise ConfigInvalid("no task: add at least one table [[task]] with name and kind")
    return tasks


def _table(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise ConfigInvalid(f"[{name}] must be a table, got {table!r}")
    return dict(table)


def _apply(document: dict[str, Any], override: str) -> None:
    """Set one value, in place."""
    path, equals, text = override.partition("=")
    *parents, key = path.strip().split(".")
    if not equals or not key:
        raise ConfigInvalid(f"--set: expected key=value, such as optimizer.steps=100; got {override!r}")
    target: Any = document
    if parents[:1] == ["task"]:
        named = [task for task in _list_tasks(document) if task.get("name") in parents[1:2]]
        if not named:
            raise ConfigInvalid(f"--set {override}: there is no task {'.'.join(parents[1:2])!r}")
        target, parents = named[0], parents[2:]
    for parent in parents:
        target = target.setdefault(parent, {})
        if not isinstance(target, dict):
            raise ConfigInvalid(f"--set {override}: {parent} is a value and has no keys")
    target[key] = _parse(text.strip())


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:  # bare text is a string
        return text
