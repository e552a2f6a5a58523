"""The fuzzer finds what it is there to find."""

from __future__ import annotations

import subprocess
import sys

from tests.fuzz import cases

SPOIL = """
import os, sys
from bowerbird.native import reference
from bowerbird import native
from tests.fuzz import fuzz_native
{spoiling}
sys.argv = ["fuzz", "--seconds", "1", "--seed", "5", "nms"]
sys.exit(fuzz_native.main())
"""


def fuzz(spoiling: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SPOIL.format(spoiling=spoiling)], capture_output=True, text=True, timeout=60
    )


def test_every_kernel_has_cases() -> None:
    """A kernel without cases is not fuzzed."""
    from bowerbird.native import kernels

    assert set(cases.CASES) == set(kernels.__all__)


def test_kernels_that_agree_pass() -> None:
    """Both kinds of cases come up: answered and refused."""
    run = fuzz("")
    assert run.returncode == 0, run.stderr
    assert "refused" in run.stdout


def test_a_wrong_answer_is_found() -> None:
    """A kernel that loses its last box."""
    run = fuzz("nms = native.nms; native.nms = lambda *a, **k: nms(*a, **k)[:-1]")
    assert run.returncode == 1
    assert "(nms, seed 5) failed: AssertionError" in run.stderr


def test_another_exception_is_found() -> None:
    """What is neither TypeError nor ValueError is a fault."""
    run = fuzz("def nms(*a, **k): raise KeyError('x')\nnative.nms = nms")
    assert run.returncode == 1
    assert "failed: KeyError" in run.stderr


def test_a_call_that_does_not_end_is_found_and_named() -> None:
    """The child is aborted, and says where it was."""
    run = fuzz("import time; fuzz_native.HANG_SECONDS = 0.5; native.nms = lambda *a, **k: time.sleep(1000)")
    assert run.returncode == 1
    assert "case 0 (nms, seed 5) ended the process with signal 6" in run.stderr


def test_a_crash_is_found_and_named() -> None:
    """The number of the case outlives the process."""
    run = fuzz("native.nms = lambda *a, **k: os.abort()")
    assert run.returncode == 1
    assert "case 0 (nms, seed 5) ended the process with signal 6; again: --seed 5 --case 0 nms" in run.stderr
