"""The module around the kernels: instruction sets, devices, threads, and what is said when the binary is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from bowerbird import native
from bowerbird.native import _core


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, timeout=60
    )


def test_the_best_level_is_used() -> None:
    """Without an override the highest level of the processor is in use, and portable is always there."""
    answer = run_python("from bowerbird import native; print(native.simd_level())", BOWERBIRD_SIMD="")
    assert answer.stdout.strip() == _core.simd_levels()[-1]
    assert _core.simd_levels()[0] == "portable"


@pytest.mark.parametrize("level", _core.simd_levels())
def test_the_environment_forces_a_level(level: str) -> None:
    """BOWERBIRD_SIMD picks any level of this processor."""
    answer = run_python("from bowerbird import native; print(native.simd_level())", BOWERBIRD_SIMD=level)
    assert answer.stdout.strip() == level


@pytest.mark.parametrize("level", ["sse9", "AVX2 ", "0"])
def test_an_unknown_level_is_refused(level: str) -> None:
    """A level this processor does not have fails the import by name; nothing else is used silently."""
    answer = run_python("from bowerbird import native", BOWERBIRD_SIMD=level)
    assert answer.returncode != 0
    assert "BOWERBIRD_SIMD: expected a SIMD level of this processor (portable" in answer.stderr
    assert f"got '{level}'" in answer.stderr


def test_a_missing_binary_says_what_to_do() -> None:
    """Without the compiled module the import fails with the way out, and no reference steps in."""
    answer = run_python("import sys; sys.modules['bowerbird.native._core'] = None; import bowerbird.native")
    assert "ImportError: the compiled module bowerbird.native._core cannot be loaded" in answer.stderr
    assert "pip install ." in answer.stderr


def test_devices_are_counted() -> None:
    """The count of devices is the count of their names; a build without CUDA has none."""
    assert native.cuda_device_count() == len(native.cuda_device_names())
    if not _core.built_with_cuda():
        assert native.cuda_device_names() == []


def test_other_threads_run_while_a_kernel_computes() -> None:
    """The GIL is free during a scan: this thread takes stamps while another one is inside the kernel."""
    codes = np.random.default_rng(18).integers(0, 256, (200_000, 32), dtype=np.uint8)
    span: list[float] = []

    def work() -> None:
        span.append(time.perf_counter())
        native.scan(codes, codes[:256], 10)
        span.append(time.perf_counter())

    worker = threading.Thread(target=work)
    worker.start()
    stamps = []
    while worker.is_alive():
        stamps.append(time.perf_counter())
        time.sleep(0.0005)
    worker.join()
    begin, end = span
    inside = [stamp for stamp in stamps if begin + (end - begin) / 10 < stamp < end - (end - begin) / 10]
    assert inside


def test_kernels_may_run_at_once() -> None:
    """Calls from several threads give what they give alone."""
    codes = np.random.default_rng(19).integers(0, 256, (20_000, 32), dtype=np.uint8)
    expected = native.scan(codes, codes[:8], 20)
    results: list[tuple[np.ndarray, np.ndarray]] = []
    threads = [
        threading.Thread(target=lambda: results.append(native.scan(codes, codes[:8], 20, num_threads=2)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    for distances, indices in results:
        np.testing.assert_array_equal(distances, expected[0])
        np.testing.assert_array_equal(indices, expected[1])


def test_a_fork_after_threads_still_works() -> None:
    """A child of a process that used several threads can use several threads."""
    code = """
import os, numpy as np
from bowerbird import native
codes = np.zeros((100_000, 8), np.uint8)
native.scan(codes, codes[:1], 5, num_threads=4)
child = os.fork()
if child == 0:
    native.scan(codes, codes[:1], 5, num_threads=4)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run_python(code).stdout.strip() == "7"
