"""Where a measured number comes from: the commit of this checkout and the processor of this machine."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def read_commit(*, results: tuple[str, ...]) -> str:
    """The commit of this checkout; `-dirty` if a tracked file differs from it.

    Args:
        results: folders, relative to the checkout, whose files do not count: what is measured is written there.
    """
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        kept = [f":!{folder}" for folder in results]
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", *kept)
    except (OSError, subprocess.CalledProcessError):
        return "unknown (not a git checkout)"
    return f"{commit}-dirty" if changed else commit


def read_processor() -> str:
    """Name of the processor; empty if the system does not tell."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git(*arguments: str) -> str:
    answer = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return answer.stdout.strip()
