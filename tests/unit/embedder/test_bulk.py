"""Large batches: every input is answered, bad ones alone fail, and what is accepted is bounded."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import pytest

from bowerbird import telemetry
from bowerbird.errors import (
    BowerbirdError,
    Cancelled,
    Draining,
    ExpiredInQueue,
    ImageDecodeFailed,
    InferenceFailed,
    QueueFull,
)
from bowerbird.models.zoo import InputSpec
from services.embedder.bulk import BulkRunner, Call, PixelArray, Reader

SPEC = InputSpec(2, 2, "rgb", (0, 0, 0), (1, 1, 1))


class FakeEngine:
    """Answers with the first pixel of each picture, and remembers the batch sizes."""

    name = "fake"

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []
        self.before_run: Callable[[list[float]], None] = lambda values: None

    def run(self, batch: Any, outputs: Any = None) -> dict[str, Any]:
        self.batch_sizes.append(len(batch))
        values = batch[:, 0, 0, 0].round()
        self.before_run(values.tolist())
        return {
            "embedding": np.stack([values, values], axis=1),
            "code_projection": np.repeat(values[:, None] - 100, 64, axis=1),
        }


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def runner(engine: FakeEngine) -> Iterator[BulkRunner]:
    runner = BulkRunner(cast(Any, engine), SPEC, threads=2, chunk_size=3, max_pending=20)
    yield runner
    runner.close()


def make_call(count: int, **options: Any) -> Call:
    settings = {"deadline": None, "is_cancelled": None} | options
    return Call(**settings, embeddings=np.zeros((count, 2), np.float32), codes=np.zeros((count, 8), np.uint8))


def picture(value: int) -> Reader:
    return lambda: np.full((4, 4, 3), value, np.uint8)


def bad() -> PixelArray:
    raise ImageDecodeFailed("no picture")


def test_every_input_is_answered_in_its_place(runner: BulkRunner, engine: FakeEngine) -> None:
    """Rows follow the inputs, whatever thread computed them; chunks have the configured size."""
    call = make_call(10)

    runner.run([picture(95 + i) for i in range(10)], call)

    assert call.embeddings[:, 0].tolist() == [95.0 + i for i in range(10)]
    assert call.codes[:, 0].tolist() == [0] * 6 + [255] * 4
    assert sorted(engine.batch_sizes) == [1, 3, 3, 3]
    assert set(call.stage_seconds) == {"decode", "preprocess", "infer"}


def test_inputs_that_fail_do_not_touch_the_others(runner: BulkRunner) -> None:
    """An input that cannot be decoded, or came as an error, has its error; a chunk of such runs nothing."""
    given = ImageDecodeFailed("given")
    inputs: list[Reader | BowerbirdError] = [given, picture(1), bad, picture(2), bad, bad, bad]
    call = make_call(len(inputs))

    runner.run(inputs, call)

    assert sorted(call.errors) == [0, 2, 4, 5, 6] and call.errors[0] is given
    assert call.embeddings[:, 0].tolist() == [0, 1, 0, 2, 0, 0, 0]


def test_an_input_that_breaks_the_model_fails_alone(runner: BulkRunner, engine: FakeEngine) -> None:
    """The others of its chunk are computed without it, and the failed runs are counted."""
    count = telemetry.INFERENCE_FAILURES_TOTAL.labels("embedder", "fake/bulk", "InferenceFailed")
    before = count._value.get()

    def fail_for_five(values: list[float]) -> None:
        if 5.0 in values:
            raise InferenceFailed("broken")

    engine.before_run = fail_for_five
    call = make_call(8)

    runner.run([picture(i + 1) for i in range(8)], call)

    assert list(call.errors) == [4]
    assert isinstance(call.errors[4], InferenceFailed)
    assert call.embeddings[:, 0].tolist() == [1, 2, 3, 4, 0, 6, 7, 8]
    assert count._value.get() - before == 2  # of three inputs, of the one


def test_a_thread_holds_one_decoded_picture(engine: FakeEngine) -> None:
    """Large pictures of a chunk are not in memory together."""
    runner = BulkRunner(cast(Any, engine), SPEC, threads=1, chunk_size=3, max_pending=20)
    given: list[weakref.ref[PixelArray]] = []
    held: list[int] = []

    def read() -> PixelArray:
        held.append(sum(reference() is not None for reference in given))
        pixels = np.full((4, 4, 3), 7, np.uint8)
        given.append(weakref.ref(pixels))
        return pixels

    runner.run([read] * 6, make_call(6))
    runner.close()
    assert held == [0] * 6


def test_a_late_or_abandoned_call_computes_nothing(runner: BulkRunner, engine: FakeEngine) -> None:
    """Deadline and cancellation are asked before each chunk."""
    with pytest.raises(ExpiredInQueue):
        runner.run([picture(1)], make_call(1, deadline=time.monotonic() - 1))
    with pytest.raises(Cancelled):
        runner.run([picture(1)], make_call(1, is_cancelled=lambda: True))

    assert not engine.batch_sizes


def test_what_is_accepted_is_bounded(runner: BulkRunner, engine: FakeEngine) -> None:
    """Beyond max_pending a call is refused with a time; room comes back when the first is answered."""
    gate, entered = threading.Event(), threading.Event()

    def wait(values: list[float]) -> None:
        entered.set()
        assert gate.wait(5)

    engine.before_run = wait
    first = threading.Thread(target=runner.run, args=([picture(1)] * 15, make_call(15)))
    first.start()
    assert entered.wait(5)

    with pytest.raises(QueueFull) as refused:
        runner.run([picture(1)] * 6, make_call(6))
    gate.set()
    first.join(5)
    runner.run([picture(1)] * 20, call := make_call(20))

    assert refused.value.retry_after_s is not None and refused.value.retry_after_s > 0
    assert call.embeddings[:, 0].tolist() == [1.0] * 20


def test_room_comes_back_after_a_failure(runner: BulkRunner) -> None:
    """A call that ends in an error leaves no work counted."""
    for _ in range(3):
        with pytest.raises(Cancelled):
            runner.run([picture(1)] * 20, make_call(20, is_cancelled=lambda: True))

    runner.run([picture(1)] * 20, call := make_call(20))
    assert not call.errors


def test_a_closed_runner_refuses(engine: FakeEngine) -> None:
    """After closing, calls are told that the server is draining."""
    runner = BulkRunner(cast(Any, engine), SPEC, threads=1, chunk_size=1, max_pending=1)
    runner.close()

    with pytest.raises(Draining):
        runner.run([picture(1)], make_call(1))
