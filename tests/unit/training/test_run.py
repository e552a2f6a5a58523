"""The directory of a run, how it is stopped, and its plots."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from bowerbird.errors import ConfigInvalid  # noqa: E402
from bowerbird.training import plots, state  # noqa: E402
from bowerbird.training.run import RunDirectory, StopSignal  # noqa: E402


def save(directory: RunDirectory, step: int) -> None:
    net = torch.nn.Linear(1, 1)
    optimizer = torch.optim.AdamW([{"params": list(net.named_parameters())}])
    state.save(directory.states, step=step, modules={"net": net}, optimizer=optimizer)


def test_a_run_is_never_overwritten_by_accident(tmp_path: Path) -> None:
    """A new run needs an empty directory, a resumed one a state."""
    directory = RunDirectory(tmp_path)
    assert directory.open(resume=False) is None
    with pytest.raises(ConfigInvalid, match="leave out --resume"):
        directory.open(resume=True)
    save(directory, 5)
    with pytest.raises(ConfigInvalid, match="step 5; go on with --resume"):
        directory.open(resume=False)
    latest = directory.open(resume=True)
    assert latest is not None and latest.step == 5


def test_resuming_drops_measurements_that_will_be_made_again(tmp_path: Path) -> None:
    """Those of later steps, and a line that was cut short."""
    directory = RunDirectory(tmp_path)
    directory.begin({"seed": 0}, 0)
    for step in (10, 20, 30):
        directory.log("train", step, {"loss": 1.0})
    with directory.metrics.open("a") as file:
        file.write('{"kind": "tr')
    directory.begin({"seed": 0}, 20)
    assert [row["step"] for row in directory.read_metrics()] == [10, 20]
    directory.begin({"seed": 0}, 0)
    assert directory.read_metrics() == []


def test_the_first_signal_asks_and_the_second_breaks_off() -> None:
    """And the handlers of before come back."""
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
        assert stop.number == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.number == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_curves_become_a_picture(tmp_path: Path) -> None:
    """One curve a name, only of the kind asked for; without any there is no file."""
    rows = [
        {"kind": "train", "step": 10, "losses": {"a": 2.0, "b": 1.0}},
        {"kind": "validation", "step": 10, "measures": {"a/p_at_1": 0.5}},
        {"kind": "train", "step": 20, "losses": {"a": 1.0}},
    ]
    curves = plots.collect(rows, "train", "losses")
    assert curves == {"a": ([10, 20], [2.0, 1.0]), "b": ([10], [1.0])}
    plots.draw(tmp_path / "loss.png", curves, ylabel="loss", smooth=True)
    plots.draw(tmp_path / "none.png", {}, ylabel="loss")
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.width > 500 and len(picture.convert("RGB").getcolors(1 << 24) or []) > 10


def test_the_running_mean_starts_at_the_first_value() -> None:
    """Without the bias towards zero of a plain exponential mean."""
    assert plots._running_mean([4.0, 4.0, 4.0]) == pytest.approx([4.0, 4.0, 4.0])


def test_two_runs_never_write_into_one_directory(tmp_path: Path) -> None:
    """The second is refused while the first lives; a directory that nothing came of is gone."""
    path = tmp_path / "run"
    with RunDirectory(path).claim():
        with pytest.raises(ConfigInvalid, match="another process is writing"), RunDirectory(path).claim():
            pass
        (path / "file").touch()
    with RunDirectory(path).claim():
        (path / "file").unlink()
    assert not path.exists()
