"""`bowerbird eval retrieval --model`: what is asked of which pictures, what is kept, and how models are compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bowerbird.cli import contest, outcome, vectors
from bowerbird.cli.vectors import Vectors
from bowerbird.corpora import PictureRecord, split_of
from bowerbird.rpc.clients import ModelRef
from bowerbird.vectors import normalize, pack_code

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "navy", "teal", "white", "black", "pink", "brown")
STYLES = ("ink", "oil", "clay")


def pick_concepts(split: str, count: int) -> list[str]:
    """Names that the split puts on this side."""
    names = (f"{a}{b}ing" for a in "bcdfghklmnprst" for b in "aeiou")
    return [name for name in names if split_of(name) == split][:count]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six test concepts and six training concepts in three styles; a concept is a colour, a style its brightness."""
    monkeypatch.setenv("BOWERBIRD_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "corpus"
    concepts = [*pick_concepts("test", 6), *pick_concepts("train", 6)]
    lines = []
    for shade, style in enumerate(STYLES):
        (root / style).mkdir(parents=True)
        for colour, concept in zip(COLOURS, concepts, strict=True):
            picture = Image.blend(Image.new("RGB", (16, 16), colour), Image.new("RGB", (16, 16), "gray"), 0.1 * shade)
            picture.save(root / style / f"{concept}.png")
            lines.append(json.dumps({"path": f"{style}/{concept}.png", "style": style, "concept": concept}))
    (root / "pictures.jsonl").write_text("\n".join(lines) + "\n")
    return root


def words(corpus: Path, *more: object) -> list[object]:
    styles = ",".join(STYLES)
    return ["eval", "retrieval", "--corpus", corpus, "--styles", styles, "--held-out", "clay", *more]


def test_the_running_services_answer_and_a_second_call_computes_nothing(
    run: Run, served: Any, corpus: Path, capsys: Capture
) -> None:
    """Only pictures that take part are embedded, each once; the next split adds what is new."""
    ask = words(corpus, "--model", "colours", "--json")
    assert run(*ask, "--split", "unseen-concepts") == outcome.EXIT_OK
    [model] = json.loads(capsys.readouterr().out)["models"]
    measured = model["unseen_concepts"]
    assert (measured["pairs"], measured["concepts"], measured["queries"]) == (2, 6, 12)
    assert measured["float"]["p_at_1"] == 1.0
    assert measured["chance"] == pytest.approx(1 / 6, abs=1e-4)
    assert model["computed_now"] == served.embedder.embedded == 12
    assert run(*ask, "--split", "unseen-concepts") == outcome.EXIT_OK
    assert json.loads(capsys.readouterr().out)["models"][0]["computed_now"] == 0
    assert run(*ask) == outcome.EXIT_OK
    [model] = json.loads(capsys.readouterr().out)["models"]
    assert model["computed_now"] == 36 - 12
    assert model["unseen_style_strict"]["queries"] == 4 * 6
    assert model["unseen_style_all_concepts"]["queries"] == 4 * 12


def test_without_a_name_the_served_model_is_examined(run: Run, corpus: Path, capsys: Capture) -> None:
    """The report for people names it, and both kinds of ranking."""
    assert run(*words(corpus, "--split", "unseen-style")) == outcome.EXIT_OK
    shown = capsys.readouterr().out
    assert "unseen style strict: 6 concepts, 4 ordered pairs" in shown
    assert "colours float" in shown
    assert "colours binary" in shown


def test_an_unknown_model_is_named(run: Run, corpus: Path, capsys: Capture) -> None:
    """Neither the zoo nor the services have it: the message lists what the zoo has."""
    assert run(*words(corpus, "--model", "nonsense")) == outcome.EXIT_FAILED
    assert "no model named 'nonsense'" in capsys.readouterr().err


def test_a_detector_is_no_embedder(run: Run, corpus: Path, capsys: Capture) -> None:
    """A model of another kind is refused before a process is started."""
    assert run(*words(corpus, "--model", "nanodet-g")) == outcome.EXIT_FAILED
    assert "nanodet-g is a detector" in capsys.readouterr().err


def test_styles_that_are_not_there_are_said(run: Run, corpus: Path, capsys: Capture) -> None:
    """A corpus without the asked styles says how to get one with them."""
    assert run(*words(corpus, "--styles", "noto,twemoji", "--held-out", "none", "--model", "x")) == outcome.EXIT_FAILED
    assert "build the demo corpus" in capsys.readouterr().err


def test_a_broken_picture_is_named(run: Run, corpus: Path, capsys: Capture) -> None:
    """A figure over all pictures but one would not be the figure asked for."""
    broken = corpus / "ink" / f"{pick_concepts('test', 1)[0]}.png"
    broken.write_bytes(broken.read_bytes()[:50])
    assert run(*words(corpus, "--model", "colours")) == outcome.EXIT_FAILED
    assert str(broken) in capsys.readouterr().err


@pytest.mark.parametrize("left", [100, 0])
def test_a_spoilt_cache_is_computed_again(run: Run, corpus: Path, capsys: Capture, tmp_path: Path, left: int) -> None:
    """A file cut short, by a full disk or a power loss, costs time and nothing else."""
    ask = words(corpus, "--model", "colours", "--split", "unseen-concepts", "--json")
    assert run(*ask) == outcome.EXIT_OK
    [kept] = (tmp_path / "cache" / "vectors").iterdir()
    kept.write_bytes(kept.read_bytes()[:left])
    capsys.readouterr()
    assert run(*ask) == outcome.EXIT_OK
    assert json.loads(capsys.readouterr().out)["models"][0]["computed_now"] == 12


def test_vectors_of_another_file_are_not_kept(
    run: Run, served: Any, corpus: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Services that start anew with another file of the same name, after they were asked, do not spoil the cache."""
    ask, find_model = words(corpus, "--model", "colours"), vectors._find_model

    def find_and_restart(*given: Any) -> ModelRef:
        found = find_model(*given)
        monkeypatch.setattr(vectors, "_ask_server", lambda _: found)
        served.embedder.info = replace(served.embedder.info, version="ffffffffffff")
        return found

    monkeypatch.setattr(vectors, "_find_model", find_and_restart)
    assert run(*ask) == outcome.EXIT_FAILED
    assert "colours ffffffffffff answers in place of colours 0123456789ab" in capsys.readouterr().err
    assert not (tmp_path / "cache" / "vectors").exists()


def make_vectors(name: str, records: list[PictureRecord], noise: float) -> Vectors:
    """Vectors whose concept shows through more or less noise."""
    generator = np.random.default_rng(0)
    centre = {concept: generator.standard_normal(64) for concept in sorted({each.concept for each in records})}
    rows = [centre[each.concept] + noise * generator.standard_normal(64) for each in records]
    raw = np.array(rows, np.float32)
    return Vectors(ModelRef(name, "0" * 12), normalize(raw), pack_code(raw), 0)


def test_models_are_compared_with_the_first_one() -> None:
    """The better model has a difference and a relative gain whose intervals are above 0, by floats and by codes."""
    concepts = pick_concepts("test", 10)
    records = [PictureRecord(f"{s}/{c}.png", style=s, concept=c) for s in STYLES for c in concepts]
    questions = contest.plan_questions("unseen-style", STYLES, "clay")
    found = [make_vectors("poor", records, 1.7), make_vectors("good", records, 1.0)]
    report = contest.measure(questions, records, found)
    rows = [each for each in report["comparisons"] if each["measure"] == "p_at_1"]
    assert {(row["question"], row["kind"]) for row in rows} == {
        (question, kind)
        for question in ("unseen_style_strict", "unseen_style_all_concepts")
        for kind in ("float", "binary")
    }
    for row in rows:
        assert (row["model"], row["baseline"]) == ("good", "poor")
        assert row["difference_interval"][0] > 0
        assert row["relative_gain_interval"][0] > 0
    poor, good = (model["unseen_style_strict"]["float"]["p_at_1"] for model in report["models"])
    row = next(row for row in rows if row["kind"] == "float" and row["question"] == "unseen_style_strict")
    assert row["difference"] == pytest.approx(good - poor, abs=2e-4)
    assert row["relative_gain"] == pytest.approx(good / poor - 1, abs=2e-3)
    assert "good float" in contest.render(report)
