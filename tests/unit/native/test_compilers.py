"""The other compiler that the README names."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCES = sorted((ROOT / "native/src").glob("*_x86.cpp")) + sorted((ROOT / "native/src").glob("*_portable.cpp"))
CLANG = shutil.which("clang++-15") or shutil.which("clang++")


@pytest.mark.skipif(CLANG is None, reason="clang++ is not installed")
def test_clang_takes_the_sources_without_a_warning() -> None:
    """What depends on the compiler, features of the processor and code without intrinsics, is not for GCC alone."""
    assert CLANG is not None
    flags = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Iinclude", "-Isrc"]
    done = subprocess.run([CLANG, *flags, *SOURCES], cwd=ROOT / "native", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
