"""How many processor threads this process may keep busy.

Runtimes that size their pools by the host's cores oversubscribe a container that was given fewer. The budget is the
smaller of the affinity mask and the cgroup quota, and everything that computes in this process is sized from it.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


def cpu_budget(cpu_threads: int = 0, *, cgroup_root: Path = CGROUP_ROOT) -> int:
    """Threads to use, at least 1.

    Args:
        cpu_threads: the operator's setting; 0: find out.
        cgroup_root: where the kernel shows the limits of this process's control group.
    """
    if cpu_threads > 0:
        return cpu_threads
    quota = read_cgroup_quota(cgroup_root)
    available = _count_affine()
    return max(1, available if quota is None else min(available, math.ceil(quota)))


def read_cgroup_quota(cgroup_root: Path = CGROUP_ROOT) -> float | None:
    """Processors that the control group allows, for example 1.5; None without a limit. Versions 2 and 1."""
    unified = _read_words(cgroup_root / "cpu.max")
    if len(unified) == 2:
        return _divide(unified[0], unified[1])
    quota = _read_words(cgroup_root / "cpu" / "cpu.cfs_quota_us")
    period = _read_words(cgroup_root / "cpu" / "cpu.cfs_period_us")
    return _divide(quota[0], period[0]) if quota and period else None


def _count_affine() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # no affinity on this system
        return os.cpu_count() or 1


def _read_words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:  # not this version of control groups, or none
        return []


def _divide(quota_us: str, period_us: str) -> float | None:
    """None for `max` and -1, which both mean that there is no limit."""
    try:
        quota, period = int(quota_us), int(period_us)
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None
