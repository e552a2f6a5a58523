"""Training as a command: to the end, interrupted, killed, resumed, on several ranks, on bad data."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from bowerbird.models.efficientnet import EfficientNetStages, load_zoo_weights  # noqa: E402
from services.embedder.model import METADATA_KEY, ModelConfig  # noqa: E402
from services.embedder.train import main  # noqa: E402
from tests.unit.embedder.tiny_training import write_corpus  # noqa: E402

COMMAND = [sys.executable, "-m", "services.embedder.train"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_corpus(tmp_path)


def train(config: Path, *arguments: str) -> int:
    return main([str(config), *arguments])


def start(config: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, str(config), *arguments], stderr=subprocess.PIPE, text=True)


def read_states(run: Path) -> dict[str, object]:
    """All tensors of the newest state."""
    newest = max((run / "states").iterdir())
    return {
        f"{file.stem}/{key}": tensor for file in newest.glob("*.safetensors") for key, tensor in load_file(file).items()
    }


def assert_same(one: dict[str, object], other: dict[str, object]) -> None:
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


def read_metrics(run: Path, kind: str) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def wait_for_step(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Until the run has saved that step or a later one."""
    while not any(int(path.name[5:]) >= step for path in (run / "states").glob("step-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_a_run_leaves_all_that_it_promises(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Weights with their description, measurements of every kind, plots, and a report on standard error."""
    assert train(config) == 0
    run = config.parent / "run"
    assert {path.name for path in run.iterdir()} == {
        "config.json", "loss.png", "metrics.jsonl", "model.safetensors", "recall.png", "states",
    }  # fmt: skip
    steps, measures = read_metrics(run, "train"), read_metrics(run, "validation")
    assert [row["step"] for row in steps] == [2, 4, 6, 8]
    assert [row["step"] for row in measures] == [4, 8]
    assert steps[0]["losses"].keys() == steps[0]["gradient_norms"].keys() == {"concept", "shade", "words"}
    assert measures[-1]["measures"].keys() == {
        "concept/p_at_1", "concept/r_at_10", "concept/binary_p_at_1", "shade/accuracy", "words/map", "words/r_at_10",
    }  # fmt: skip
    assert json.loads((run / "config.json").read_text())["optimizer"]["weight_decay"] == 0.05
    with Image.open(run / "recall.png") as picture:
        assert picture.format == "PNG"
    report = capfd.readouterr().err
    assert "45 training pictures, 15 for validation" in report
    assert "words: multilabel, 5 labels" in report
    assert "done:" in report and "concept/p_at_1" in report


def test_the_weights_describe_themselves(config: Path) -> None:
    """The metadata is all that is needed to build the network; the best validation's weights, averaged."""
    from safetensors import safe_open

    assert train(config) == 0
    with safe_open(config.parent / "run/model.safetensors", "pt") as file:
        described = ModelConfig.from_json(file.metadata()[METADATA_KEY])
        keys = set(file.keys())
    assert described.backbone.width == described.dimension == 16
    assert [(task.name, len(task.labels)) for task in described.tasks] == [("concept", 9), ("shade", 2), ("words", 5)]
    assert {"projection.weight", "heads.concept.weight"} <= keys


def test_training_learns(config: Path) -> None:
    """The loss of every task falls well below where it began, and unseen concepts are found."""
    assert train(config, "--set", "optimizer.steps=60", "--set", "validation.every=60") == 0
    steps, [measured] = (read_metrics(config.parent / "run", kind) for kind in ("train", "validation"))
    first, last = steps[0]["losses"], steps[-1]["losses"]
    assert all(last[name] < 0.8 * first[name] for name in first), (first, last)
    assert measured["measures"]["concept/p_at_1"] > 0.5


def test_a_killed_run_goes_on_bit_for_bit(config: Path) -> None:
    """SIGKILL to a real process after some step; resumed to the end it equals one that never stopped."""
    whole, run = config.parent / "whole", config.parent / "run"
    arguments = ("--set", "optimizer.save_every=1", "--set", "optimizer.steps=24")
    assert train(config, "--output", str(whole), *arguments) == 0
    process = start(config, *arguments)
    wait_for_step(run, 5, process)
    process.kill()
    process.communicate()
    assert not (run / "states/step-00000024").exists(), "the run ended before it was killed"
    assert train(config, "--resume", *arguments) == 0
    assert_same(read_states(whole), read_states(run))
    assert (whole / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    assert read_metrics(whole, "validation") == read_metrics(run, "validation")
    assert [row["step"] for row in read_metrics(run, "train")] == list(range(2, 25, 2))


def test_an_interrupted_run_saves_and_says_how_to_go_on(config: Path) -> None:
    """The step is finished, the last line is the command that resumes; that gives the weights of an unbroken run."""
    whole, run = config.parent / "whole", config.parent / "run"
    arguments = ("--set", "optimizer.steps=80", "--set", "validation.every=0")
    process = start(config, *arguments)
    wait_for_step(run, 4, process)
    process.send_signal(signal.SIGINT)
    _, report = process.communicate(timeout=60)
    assert process.returncode == 130, report
    stopped = max(int(path.name[5:]) for path in (run / "states").iterdir())
    assert 4 <= stopped < 80
    assert f"stopped after step {stopped}" in report
    assert report.rstrip().endswith("--resume") and "bowerbird train embedder" in report
    assert train(config, "--resume", *arguments) == 0
    assert train(config, "--output", str(whole), *arguments) == 0
    assert_same(read_states(whole), read_states(run))


def test_two_ranks_learn_what_one_learns(config: Path) -> None:
    """Same weights within rounding, although no rank sees all labels in a step; and a state of two resumes on one."""
    arguments = ("--set", "optimizer.steps=4", "--set", "validation.every=2")
    one, two = config.parent / "one", config.parent / "two"
    assert train(config, "--output", str(one), *arguments) == 0
    process = start(config, "--output", str(two), "--processes", "2", *arguments)
    _, report = process.communicate(timeout=120)
    assert process.returncode == 0, report
    assert report.count("training pictures") == 1
    first, second = read_states(one), read_states(two)
    assert first.keys() == second.keys()
    for key, tensor in first.items():
        torch.testing.assert_close(second[key], tensor, rtol=0, atol=1e-5 if "/exp_avg" not in key else 1e-4, msg=key)
    longer = ("--set", "optimizer.steps=8", "--set", "optimizer.save_every=4", "--set", "validation.every=0")
    assert train(config, "--output", str(two), "--resume", *longer) == 0


def test_a_sampled_head_moves_between_numbers_of_ranks(config: Path) -> None:
    """Its rows are spread over two ranks, and one goes on with all of them; a rank without labels hinders none."""
    sampled = ("--set", "task.words.sample_rate=0.6", "--set", "validation.every=0")
    process = start(config, "--processes", "2", "--set", "optimizer.steps=4", *sampled)
    _, report = process.communicate(timeout=120)
    assert process.returncode == 0, report
    run = config.parent / "run"
    shards = sorted(path.name for path in (run / "states/step-00000004/model.heads.words").iterdir())
    assert len(shards) == 2
    assert train(config, "--resume", "--set", "optimizer.steps=6", *sampled) == 0
    assert len(list((run / "states/step-00000006/model.heads.words").iterdir())) == 1
    assert not any("words" in key for key in load_file(run / "model.safetensors"))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_good_state(
    config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, the batch is named, and what is saved is finite and of before the step."""
    assert train(config, "--set", "task.concept.weight=1e39") == 1
    run = config.parent / "run"
    assert all(bool(torch.isfinite(tensor).all()) for tensor in read_states(run).values())
    bad = json.loads((run / "bad_batch.json").read_text())
    assert bad["step"] == 0 and len(bad["pictures"]) == len(bad["rows"]) == 12
    report = capfd.readouterr().err
    assert "not finite at step 0" in report and bad["pictures"][0] in report
    assert str(run / "states/step-00000000") in report


def test_a_run_is_neither_overwritten_nor_resumed_from_nothing(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Both are mistakes of the command line, with advice."""
    assert train(config, "--resume") == 2
    assert "leave out --resume" in capfd.readouterr().err
    assert train(config) == 0
    assert train(config) == 2
    assert "--resume, or choose another directory" in capfd.readouterr().err


def test_another_architecture_is_refused_by_name(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Resuming with a changed model names a tensor and both shapes."""
    assert train(config) == 0
    assert train(config, "--resume", "--set", "model.dimension=24", "--set", "optimizer.steps=9") == 2
    assert "projection.weight has shape (16, 16), expected (24, 16)" in capfd.readouterr().err


def test_unreadable_pictures_are_replaced_and_named(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One broken file, one absent and one impossible: training goes on and says so."""
    (config.parent / "0-0.png").write_bytes(b"no picture")
    (config.parent / "1-1.png").unlink()
    table = config.parent / "table.jsonl"
    table.write_text(table.read_text().replace('"2-2.png"', '"2-2\\u0000.png"'))  # no path can have that byte
    assert train(config, "--set", "optimizer.steps=20") == 0
    report = capfd.readouterr().err
    assert "3 pictures cannot be read" in report
    assert any(name in report for name in ("0-0.png", "1-1.png", "2-2"))


def test_a_teacher_is_learnt_from_and_dropped(config: Path) -> None:
    """With a table of vectors the loss is there and falls; the weights that are kept know nothing of it."""
    import numpy as np

    vectors = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    np.save(config.parent / "teacher.npy", vectors)
    assert (
        train(config, "--set", f"distill.teacher={config.parent / 'teacher.npy'}", "--set", "optimizer.steps=30") == 0
    )
    run = config.parent / "run"
    losses = [row["losses"]["distillation"] for row in read_metrics(run, "train")]
    assert losses[-1] < losses[0]
    assert not any("distill" in key for key in load_file(run / "model.safetensors"))


def test_starting_from_another_run_takes_its_backbone(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Pretraining, then fine-tuning: a run's directory is a checkpoint."""
    first, second = config.parent / "first", config.parent / "second"
    assert train(config, "--output", str(first)) == 0
    frozen = ("--set", "optimizer.backbone_rate=0", "--set", "optimizer.steps=1", "--set", "optimizer.ema=0")
    assert train(config, "--output", str(second), "--set", f"model.init={first}", *frozen) == 0
    assert "starting from" in capfd.readouterr().err
    old, new = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    backbone = [key for key in old if key.startswith("backbone.")]
    assert backbone and all(torch.equal(old[key], new[key]) for key in backbone)


def test_a_hybrid_stem_starts_from_the_zoo(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Unless it is told otherwise, the front of the open CNN brings its weights; frozen, they stay, the rest learns."""
    frozen = ("--set", "optimizer.stem_rate=0", "--set", "optimizer.steps=2", "--set", "optimizer.ema=0")
    assert train(config, "--set", "model.stem=efficientnet-lite0", *frozen, "--set", "optimizer.save_every=1") == 0
    assert "the stem starts from the weights of the zoo's efficientnet-lite0" in capfd.readouterr().err
    first, weights = (
        load_file(path) for path in sorted((config.parent / "run" / "states").glob("*/model.safetensors"))
    )
    assert not torch.equal(first["backbone.stem.projection.weight"], weights["backbone.stem.projection.weight"])
    published = EfficientNetStages(8)
    load_zoo_weights(published)
    stem = {name: weights[f"backbone.stem.features.{name}"] for name in published.state_dict()}
    assert_same(stem, published.state_dict())


def test_micro_batches_change_nothing_but_rounding(config: Path) -> None:
    """A batch in one and in four parts."""
    one, parts = config.parent / "one", config.parent / "parts"
    arguments = ("--set", "optimizer.steps=4", "--set", "validation.every=0")
    assert train(config, "--output", str(one), *arguments) == 0
    assert train(config, "--output", str(parts), "--set", "optimizer.micro_batch_size=3", *arguments) == 0
    first, second = read_states(one), read_states(parts)
    for key, tensor in first.items():
        torch.testing.assert_close(second[key], tensor, rtol=0, atol=1e-5 if "/exp_avg" not in key else 1e-4, msg=key)


def test_the_command_line_starts_training(config: Path) -> None:
    """`bowerbird train embedder CONFIG`, as a user types it, and its exit code."""
    command = [sys.executable, "-m", "bowerbird.cli", "train", "embedder", str(config), "--set", "optimizer.steps=2"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())}, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "done:" in done.stderr
    assert (config.parent / "run/model.safetensors").exists()


def test_an_output_may_have_any_name(config: Path) -> None:
    """A blank, and a character outside the basic plane, which JSON and TOML escape in different ways."""
    run = config.parent / "my run \U0001f600"
    assert train(config, "--output", str(run), "--set", "optimizer.steps=1", "--set", "validation.every=0") == 0
    assert (run / "model.safetensors").exists()


def test_pictures_that_stand_in_count_as_what_they_are(config: Path) -> None:
    """Whoever is drawn for its words cannot be read, and pictures with or without words come instead."""
    rows = [json.loads(line) for line in (config.parent / "table.jsonl").read_text().splitlines()]
    for row in rows:
        if row["words"]:
            (config.parent / row["picture"]).write_bytes(b"no picture")
    single = ("--set", "task.concept.draws=false", "--set", "task.concept.per_class=0", "--set", "optimizer.steps=1")
    assert train(config, *single, "--set", "validation.every=0", "--set", "optimizer.log_every=1") == 0
    [step] = read_metrics(config.parent / "run", "train")
    assert "words" not in step["losses"]  # none of the pictures that stand in has any
    assert 1.0 < step["losses"]["concept"] < 20.0  # each has one: a mean, not a sum


def test_a_full_disk_is_a_failure_and_no_usage(
    config: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it shows: here under the measurements, which are no state."""
    from bowerbird.training.run import RunDirectory

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "metrics.jsonl")

    monkeypatch.setattr(RunDirectory, "log", fail)
    assert train(config) == 1
    assert "cannot go on: [Errno 28] No space left on device: 'metrics.jsonl'" in capfd.readouterr().err


def test_validation_pictures_that_cannot_be_read_are_told(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Training never meets them, so nobody else would."""
    (config.parent / "9-0.png").write_bytes(b"no picture")
    (config.parent / "10-1.png").unlink()
    assert train(config, "--set", "optimizer.steps=1") == 0
    report = capfd.readouterr().err
    assert "2 of 15 validation pictures cannot be read and are left out; the first: 9-0.png" in report


def test_another_teacher_is_asked_anew(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one model of the zoo said of as many pictures is not taken for what another would say."""
    import numpy as np

    from services.embedder import distill

    asked = []

    def embed(name: str, table: object, *, report: bool) -> object:
        asked.append(name)
        return np.ones((len(table), 3), np.float16)  # type: ignore[arg-type]

    monkeypatch.setattr(distill, "_embed", embed)
    short = ("--set", "optimizer.steps=1", "--set", "validation.every=0")
    for teacher in ("one", "one", "two"):
        assert train(config, "--set", f"distill.teacher={teacher}", *short) == 0
        shutil.rmtree(config.parent / "run/states")
    assert asked == ["one", "two"]


def test_a_batch_that_ranks_cannot_share_is_refused_at_once(config: Path) -> None:
    """Before a network is made or a teacher asked, and each rank by itself."""
    process = start(config, "--processes", "4", "--set", "distill.teacher=absent")
    _, report = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "expected a divisor of the batch of 6 pictures, got 4" in report and "Traceback" not in report


def test_the_fault_of_one_rank_is_the_last_word(config: Path) -> None:
    """Rank 0 refuses a directory that is taken: its message, its exit code, and no traceback of the others."""
    from bowerbird.training.run import RunDirectory

    with RunDirectory(config.parent / "run").claim():
        process = start(config, "--processes", "2")
        _, report = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "another process is writing a run" in report and "Traceback" not in report


def test_no_process_is_a_mistake(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """And not a run on one."""
    with pytest.raises(SystemExit, match="2"):
        train(config, "--processes", "0")
    assert "--processes: expected 1 or more, got 0" in capfd.readouterr().err


def test_a_damaged_state_is_left_by_deleting_it(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The message names the directory, and without it the run goes on from the state before."""
    short = ("--set", "validation.every=0")
    assert train(config, *short) == 0
    newest = config.parent / "run/states/step-00000008"
    (newest / "model.safetensors").write_bytes(b"cut")
    assert train(config, "--resume", *short) == 2
    assert f"delete {newest} to resume" in capfd.readouterr().err
    shutil.rmtree(newest)
    assert train(config, "--resume", *short) == 0
    assert "step 4, float32" in capfd.readouterr().err
