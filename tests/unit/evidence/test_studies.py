"""The tables as planned: every arm trains on a column that is there, and every comparison is of arms that exist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from bowerbird.training.dataset import PictureTable
from bowerbird.training.run import StopSignal
from pipelines.evidence import drawn, studies
from pipelines.evidence.bench import SIDE, Bench, Place, Stopped, fill_missing, keep_share, mask_rare
from pipelines.evidence.frozen import CnnWithHead, FrozenCnn
from pipelines.evidence.recipes import QUICK, change
from pipelines.evidence.skin import TypologyAngle
from pipelines.evidence.trained import Trained

TINY = change(QUICK, ["cnn_size=32", "views=1", "head_steps=20", "pretrain_steps=1", "finetune_steps=1"])


def encode(labels: list[str]) -> np.ndarray:
    """Stands in for the text encoder: a random direction for each label."""
    vectors = [np.random.default_rng(sum(label.encode())).standard_normal(16) for label in labels]
    return np.array([vector / np.linalg.norm(vector) for vector in vectors], np.float32)


class Encoder:
    def __init__(self) -> None:
        self.encode = encode


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    drawn.build(folder)
    return folder


@pytest.fixture
def bench(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(studies, "open_text_encoder", Encoder)
    place = Place(folder / drawn.TABLE, folder, tmp_path)
    styles = tuple(style.name for style in drawn.STYLES)
    return Bench(place, TINY, StopSignal(), held_out=drawn.HELD_OUT, compared=styles)


@pytest.mark.parametrize("name", studies.PLANS)
def test_every_arm_can_be_configured(bench: Bench, name: str) -> None:
    """Columns and splits that arms name are in the table, with training pictures; comparisons name arms that exist."""
    study = studies.PLANS[name](bench)
    assert study.name == name
    assert len(study.arms) >= 2
    table = PictureTable.from_file(bench.table, root=bench.place.root)
    for source in study.arms.values():
        while isinstance(source, Trained):
            source.configure(bench, 0, None)
            trains = np.array(table.column(source.split)) == "train"
            for task in source.tasks:
                labels = np.array(table.column(task.column or task.name), object)
                assert any(bool(label) for label in labels[trains]), f"{name}: {task}"
            source = source.init
    for compared in study.comparisons:
        assert {compared.baseline, compared.arm} <= study.arms.keys()
    if study.axis:
        assert study.axis[1].keys() == study.arms.keys()


def test_nothing_of_the_test_trains(bench: Bench) -> None:
    """Neither a test concept nor the held-out style stands on the training side, and examined are only these."""
    studies.PLANS["cnn"](bench)
    for side, split, style in zip(bench.columns[SIDE], bench.columns["split"], bench.columns["style"], strict=True):
        assert side != "train" or (split == "train" and style != drawn.HELD_OUT)
    assert not (bench.examined & bench.subjects.trains).any()


def test_the_left_out_style_does_not_train_its_tones(bench: Bench) -> None:
    """Each arm of the skin table trains on all styles but its own."""
    study = studies.PLANS["skin-tone"](bench)
    for name, source in study.arms.items():
        assert isinstance(source, (Trained, TypologyAngle))
        sides = bench.columns[source.split]
        trained = {style for style, side in zip(bench.columns["style"], sides, strict=True) if side == "train"}
        assert trained == {style.name for style in drawn.STYLES if f", {style.name} left out" not in name}
        if isinstance(source, Trained):
            assert not source.colour  # colours are what is to be learnt


def test_a_smaller_share_of_concepts_is_part_of_a_larger_one() -> None:
    """So that a curve over shares adds labels and never swaps them."""
    concepts: list[str | None] = [f"thing-{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    half, most = keep_share(concepts, 0.5), keep_share(concepts, 0.8)
    assert all(more == less for less, more in zip(half, most, strict=True) if less)
    assert 0 < len([each for each in half if each]) < len([each for each in most if each]) < 26
    assert keep_share(concepts, 1.0) == concepts


def test_single_pictures_and_missing_labels() -> None:
    """A concept on one training picture is masked; without masks a missing label is a class of its own."""
    sides = ["train", "train", "train", "test"]
    assert mask_rare(["a", "a", "b", "b"], sides) == ["a", "a", None, None]
    assert fill_missing(["x", None, ""]) == ["x", "(none)", "(none)"]


def test_the_cnn_and_its_head_find_drawn_concepts(bench: Bench) -> None:
    """Features are computed once and kept; a head on them has codes, the bare features have none."""
    study = studies.PLANS["cnn"](bench)
    plain = study.arms["CNN as it is"].represent(bench, 0)
    samples, _ = study.measure(bench, "CNN as it is", plain)
    assert samples["concepts P@1"].mean > 0.2  # chance is 0.05
    assert "concepts P@1 binary" not in samples
    head = study.arms["CNN + metric head"]
    first, again, other = (head.represent(bench, seed).embeddings for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(list((bench.place.work / "features").iterdir())) == 1 + TINY.views
    assert isinstance(study.arms["CNN as it is"], FrozenCnn)
    assert isinstance(head, CnnWithHead)


def test_a_stopped_bench_begins_nothing(bench: Bench) -> None:
    """Ctrl-C before an arm ends the command at once."""
    study = studies.PLANS["binary"](bench)
    bench.stop.number = 2
    with pytest.raises(Stopped):
        next(iter(study.arms.values())).represent(bench, 0)


def test_the_angle_tells_drawn_tones_apart(bench: Bench) -> None:
    """The classical measure is right on most faces of a style that its centres were not taken from."""
    study = studies.PLANS["skin-tone"](bench)
    name = "ITA, poster left out"
    samples, facts = study.measure(bench, name, study.arms[name].represent(bench, 0))
    assert samples["tone accuracy"].mean > 0.8
    assert np.sum(facts["confusion"]) == len(drawn.FACES) * len(drawn.TONES)
    assert sorted(facts["classes"]) == sorted(drawn.TONES)
