"""Random shapes, strides, dtypes and values through every binding of the native module.

Run: python -m tests.fuzz.fuzz_native [--seconds 5] [--seed 0] [--case N] [kernel ...]

A case takes arguments that are right and spoils none, one or two of them. The call must then either raise TypeError,
ValueError or MemoryError, or return what the NumPy reference returns for the same arguments. The calls are made in a
child process: a crash of it, or a case that does not end, is reported with its number, and `--case N` makes that case
again.
"""

from __future__ import annotations

import argparse
import faulthandler
import mmap
import os
import random
import signal
import struct
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird import native
from bowerbird.native import _core, reference
from tests.fuzz import cases

Array = npt.NDArray[Any]
ALLOWED = (TypeError, ValueError, MemoryError)
LIMIT_SECONDS = 20.0  # of one call: more is a fault
HANG_SECONDS = 60.0  # of one case, the reference included


@dataclass
class Tally:
    """What the calls came to."""

    answered: int = 0
    refused: int = 0
    by_kernel: dict[str, int] = field(default_factory=dict)


def spoiled(value: Any, rng: np.random.Generator) -> Any:
    """Another value for an argument, most often one that the kernel must refuse."""
    if isinstance(value, np.ndarray):
        return ARRAY_SPOILERS[rng.integers(len(ARRAY_SPOILERS))](value, rng)
    if isinstance(value, list):
        return value[:-1] if rng.random() < 0.5 else [*value, None]
    choices: list[Any] = [None, "x", -1, 0, 1.5, float("nan"), float("inf"), 2**31, 2**63, -(2**63), 2**80, [1]]
    return choices[rng.integers(len(choices))]


def _reshaped(array: Array, rng: np.random.Generator) -> Array:
    return array.reshape(-1) if rng.random() < 0.5 else array[None]


def _shortened(array: Array, rng: np.random.Generator) -> Array:
    axis = int(rng.integers(array.ndim)) if array.ndim else 0
    return array if not array.ndim else np.delete(array, slice(0, 1), axis)


def _with_other_strides(array: Array, rng: np.random.Generator) -> Array:
    if not array.ndim:
        return array
    doubled = np.repeat(array, 2, axis=int(rng.integers(array.ndim)))
    picks = (slice(None, None, 2 if doubled.shape[axis] != array.shape[axis] else 1) for axis in range(array.ndim))
    return doubled[tuple(picks)]


def _reversed(array: Array, rng: np.random.Generator) -> Array:
    return np.flip(array.copy(), axis=int(rng.integers(array.ndim))) if array.ndim else array


def _misaligned(array: Array, rng: np.random.Generator) -> Array:
    del rng
    return np.frombuffer(b"\0" + array.tobytes(), np.uint8, offset=1).view(array.dtype).reshape(array.shape)


def _with_a_strange_value(array: Array, rng: np.random.Generator) -> Array:
    changed = array.copy()
    if changed.size:
        strange: list[Any] = [-1, 0, np.iinfo(np.int64).max, np.iinfo(np.int64).min, 1 << 31]
        if changed.dtype.kind == "f":
            strange = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 65504.0]
        with np.errstate(all="ignore"):
            changed.reshape(-1)[rng.integers(changed.size)] = np.array(strange[rng.integers(len(strange))]).astype(
                changed.dtype
            )
    return changed


def _of_other_type(array: Array, rng: np.random.Generator) -> Array:
    names = ["u1", "i1", "i2", "i4", "i8", "u8", "f2", "f4", "f8", ">f4", "?", "c8", "O"]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return array.astype(names[rng.integers(len(names))])


def _not_an_array(array: Array, rng: np.random.Generator) -> Any:
    return [None, array.tolist(), b"bytes", 3, object()][rng.integers(5)]


ARRAY_SPOILERS: list[Callable[[Array, np.random.Generator], Any]] = [
    _reshaped, _shortened, _with_other_strides, _reversed, _misaligned, _with_a_strange_value, _of_other_type,
    _not_an_array, lambda array, rng: np.asfortranarray(array), lambda array, rng: array[:0] if array.ndim else array,
]  # fmt: skip


def equal(ours: Any, theirs: Any, case: cases.Case) -> None:
    """Raises AssertionError unless both answers agree."""
    ours = ours if isinstance(ours, tuple) else (ours,)
    theirs = theirs if isinstance(theirs, tuple) else (theirs,)
    for mine, expected in zip(ours, theirs, strict=True):
        assert mine.dtype == expected.dtype and mine.shape == expected.shape, (mine.shape, expected.shape)
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(mine, expected, rtol=case.rtol, atol=case.atol)
        elif case.exact:
            np.testing.assert_array_equal(mine, expected)


def run_case(kernel: str, number: int, seed: int, tally: Tally) -> None:
    """One call. Raises whatever is not allowed."""
    rng = np.random.default_rng([seed, number])
    levels = _core.simd_levels()
    _core.use_simd_level(levels[rng.integers(len(levels))])
    case = cases.CASES[kernel](rng)
    arguments = dict(case.arguments)
    for name in rng.choice(list(arguments), min(int(rng.integers(0, 3)), len(arguments)), replace=False):
        arguments[name] = spoiled(arguments[name], rng)
    start = time.monotonic()
    try:
        answer = _call(getattr(native, kernel), case, arguments)
    except ALLOWED:
        tally.refused += 1
        return
    finally:
        took = time.monotonic() - start
        if took > LIMIT_SECONDS:
            raise AssertionError(f"the call took {took:.1f} s")
    tally.answered += 1
    if not all(np.isfinite(value).all() for value in arguments.values() if _is_float_array(value)):
        return  # what an accepted infinity comes to is for the property tests
    with np.errstate(over="ignore"):  # a tiny deviation drives both to infinity
        expected = _call(getattr(reference, kernel), case, arguments)
    equal(answer, expected, case)


def _call(function: Callable[..., Any], case: cases.Case, arguments: Mapping[str, Any]) -> Any:
    by_position = [arguments[name] for name in case.positional]
    by_name = {name: value for name, value in arguments.items() if name not in case.positional}
    return function(*by_position, **by_name)


def _is_float_array(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def run(kernels: list[str], first: int, seconds: float, seed: int, progress: mmap.mmap) -> int:
    """Cases from `first` on until the time is over; the number of the present one stands in `progress`."""
    faulthandler.enable()
    tally, number, end = Tally(), first, time.monotonic() + seconds
    while True:
        kernel = kernels[number % len(kernels)]
        progress[:8] = struct.pack("q", number)
        try:
            run_case(kernel, number, seed, tally)
        except Exception as error:
            print(f"case {number} ({kernel}, seed {seed}) failed: {type(error).__name__}: {error}", file=sys.stderr)
            return 1
        tally.by_kernel[kernel] = tally.by_kernel.get(kernel, 0) + 1
        number += 1
        if time.monotonic() >= end:
            break
    print(f"{number - first} calls in {seconds:g} s, seed {seed}: {tally.answered} answered as the reference does, "
          f"{tally.refused} refused; {tally.by_kernel}")  # fmt: skip
    return 0


def main() -> int:
    """Run the cases in a child, and say which one it died of."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernels", nargs="*", choices=[[], *cases.CASES], help="all of them unless named")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None, help="a random one unless given")
    parser.add_argument("--case", type=int, default=None, help="this case alone, in this process")
    arguments = parser.parse_args()
    kernels = arguments.kernels or list(cases.CASES)
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    progress = mmap.mmap(-1, 8)
    if arguments.case is not None:
        return run(kernels, arguments.case, 0.0, seed, progress)
    child = os.fork()
    if child == 0:
        os._exit(_flushed(run(kernels, 0, arguments.seconds, seed, progress)))
    status = _exit_code(child, progress)
    if status < 0:
        number = struct.unpack("q", progress[:8])[0]
        print(f"case {number} ({kernels[number % len(kernels)]}, seed {seed}) ended the process with signal {-status}; "
              f"again: --seed {seed} --case {number} {' '.join(arguments.kernels)}", file=sys.stderr)  # fmt: skip
    return 0 if status == 0 else 1


def _exit_code(child: int, progress: mmap.mmap) -> int:
    """Exit code of the child once it ends. One that stays with a case is aborted, and says where it was."""
    seen, since = progress[:8], time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if progress[:8] != seen:
            seen, since = progress[:8], time.monotonic()
        elif time.monotonic() - since > HANG_SECONDS:
            os.kill(child, signal.SIGABRT)
            since = time.monotonic()
        time.sleep(0.02)


def _flushed(status: int) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    sys.exit(main())
