from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import bench_native, bench_native_gpu, report
from benchmarks.native_gpu import clock

FOLDER = Path(bench_native.__file__).parent


@pytest.mark.parametrize(("bench", "folder"), [(bench_native, "native"), (bench_native_gpu, "native_gpu")])
def test_every_module_with_rows_is_run(bench: ModuleType, folder: str) -> None:
    """A benchmark of a kernel that is not named would not be run."""
    modules = (FOLDER / folder).glob("*.py")
    written = {path.stem for path in modules if "def rows(*, quick: bool)" in path.read_text()}

    assert written == set(bench.KERNELS)


@pytest.mark.parametrize(
    "name",
    [f"{folder}.{path.stem}" for folder in ("native", "native_gpu") for path in (FOLDER / folder).glob("[a-z]*.py")],
)
def test_every_module_can_be_imported(name: str) -> None:
    """Where its peers are installed, every benchmark loads; nothing else would notice a name that was moved."""
    code = f"import benchmarks.{name}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    missing = re.search(r"ModuleNotFoundError: No module named '(cv2|numba|usearch|torch|torchvision)", run.stderr)
    if missing:
        pytest.skip(f"{missing[1]} is not installed: make bench installs it")

    assert run.returncode == 0, run.stderr


def test_an_unknown_kernel_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the kernels there are."""
    monkeypatch.setattr(sys, "argv", ["bench_native", "nsm"])

    with pytest.raises(SystemExit, match="2"):
        bench_native.main()

    assert "expected some of search, scan" in capsys.readouterr().err


@pytest.mark.parametrize("switches", [[], ["--json"]])
def test_without_a_device_nothing_is_measured_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], switches: list[str]
) -> None:
    """It says why, and JSON lines stay JSON lines."""
    monkeypatch.setattr(sys, "argv", ["bench_native_gpu", *switches])
    monkeypatch.setattr(clock, "why_not", lambda: "no CUDA device")
    monkeypatch.setattr(report, "write", lambda *_: pytest.fail("there is nothing to write"))

    bench_native_gpu.main()

    printed = capsys.readouterr()
    assert (printed.err if switches else printed.out) == "no CUDA device: nothing measured\n"
    assert not (printed.out if switches else printed.err)
