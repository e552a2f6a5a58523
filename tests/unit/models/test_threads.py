"""The thread budget follows the operator, the quota and the affinity, in this order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bowerbird.errors import ConfigInvalid
from bowerbird.models import ModelsConfig
from bowerbird.models.threads import cpu_budget, read_cgroup_quota

AFFINE = len(os.sched_getaffinity(0))


def test_the_setting_wins() -> None:
    """A number of threads that the operator sets is taken as it is."""
    assert cpu_budget(7) == 7


def test_without_a_limit_the_affinity_counts(tmp_path: Path) -> None:
    """An empty control group leaves the processors of the affinity mask."""
    assert cpu_budget(cgroup_root=tmp_path) == AFFINE


@pytest.mark.parametrize(
    ("content", "quota"),
    [("150000 100000\n", 1.5), ("max 100000\n", None), ("50000 100000", 0.5), ("", None), ("x y", None)],
)
def test_the_quota_of_version_2_is_read(tmp_path: Path, content: str, quota: float | None) -> None:
    """cpu.max holds quota and period; `max` and anything unreadable mean no limit."""
    (tmp_path / "cpu.max").write_text(content)

    assert read_cgroup_quota(tmp_path) == quota


@pytest.mark.parametrize(("quota_us", "quota"), [("300000", 3.0), ("-1", None)])
def test_the_quota_of_version_1_is_read(tmp_path: Path, quota_us: str, quota: float | None) -> None:
    """cfs_quota_us and cfs_period_us hold the limit; -1 means none."""
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text(quota_us)
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")

    assert read_cgroup_quota(tmp_path) == quota


def test_a_fraction_of_a_processor_is_one_thread(tmp_path: Path) -> None:
    """The budget is rounded up, and never zero."""
    (tmp_path / "cpu.max").write_text("10000 100000")

    assert cpu_budget(cgroup_root=tmp_path) == 1


@pytest.mark.parametrize("settings", [{"cpu_threads": -1}, {"provider": "tpu"}, {"zoo_dir": Path("/no/such/zoo")}])
def test_settings_are_checked_at_start(settings: dict[str, object]) -> None:
    """A setting out of range is refused, by name."""
    with pytest.raises(ConfigInvalid, match=next(iter(settings))):
        ModelsConfig(**settings)  # type: ignore[arg-type]
