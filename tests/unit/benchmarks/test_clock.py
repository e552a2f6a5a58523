"""The clock of the device on a made-up device, whose time only passes when it is told to."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from benchmarks.native_gpu import clock


class Device:
    """Time in seconds, and what was done when."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def work(self, name: str, seconds: float) -> Callable[[], None]:
        def call() -> None:
            self.log.append(name)
            self.now += seconds

        return call


class Buffer:
    def __init__(self, device: Device, size: int) -> None:
        self.device, self.size = device, size

    def zero_(self) -> None:
        self.device.work("erase", 1.0)()

    def copy_(self, source: Buffer) -> None:
        self.device.work("copy", (source.size + self.size) / 1e12)()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Device()

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = device.now

        def synchronize(self) -> None:
            pass

        def elapsed_time(self, end: Event) -> float:
            return (end.at - self.at) * 1e3

    torch: Any = ModuleType("torch")
    torch.uint8 = "uint8"
    torch.cuda = SimpleNamespace(Event=Event, is_available=lambda: True)
    torch.empty = lambda size, **_: Buffer(device, size)
    torch.empty_like = lambda source: Buffer(device, source.size)
    torch.randint = lambda _low, _high, shape, **_: Buffer(device, shape[0])
    monkeypatch.setitem(sys.modules, "torch", torch)
    return device


def test_the_cache_is_erased_before_each_sample_and_not_timed(device: Device) -> None:
    """Contenders take turns in flipping order, each on a cold cache."""
    samples = clock.interleave({"a": device.work("a", 0.25), "b": device.work("b", 0.5)}, 2)

    turns = device.log[2 * clock.WARM_UP_CALLS :]
    assert turns == ["erase", "a", "erase", "b", "erase", "b", "erase", "a"]
    assert samples == {"a": pytest.approx([0.25, 0.25]), "b": pytest.approx([0.5, 0.5])}


def test_a_short_call_on_a_warm_cache_is_repeated_within_a_sample(device: Device) -> None:
    """Events resolve half a microsecond: a sample of a call of ten is the mean of many."""
    samples = clock.interleave({"a": device.work("a", 10e-6)}, 3, flush=False)

    assert samples["a"] == pytest.approx([10e-6] * 3)
    assert len(device.log) >= 3 * clock.SAMPLE_S / 10e-6
    assert "erase" not in device.log


def test_the_floor_is_the_share_of_a_copy_of_the_same_run(device: Device) -> None:
    """A made-up device copies 1 TB/s, read and write together: a kernel that must move 2 GB needs 2 ms."""
    (row,) = clock.compare(
        "x", device.work("ours", 4e-3), {"torch": device.work("peer", 12e-3)}, 3, floor_bytes=2 * 10**9
    )

    assert row["floor"] == clock.COPY
    assert row["floor_ms"] == pytest.approx(2.0, rel=1e-3)
    assert (row["of_floor"], row["ratio"], row["peer"]) == (2.0, 3.0, "torch")
    assert clock.copy_bytes_per_second(3) == pytest.approx(1e12)


def test_without_torch_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is a sentence, not an ImportError."""
    monkeypatch.setitem(sys.modules, "torch", None)

    assert clock.why_not() == "torch is not installed"
