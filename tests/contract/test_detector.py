"""The detector over in-process gRPC: every RPC, every reason it can fail with, and batches with bad pictures."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bowerbird import errors
from bowerbird.images import PictureCache
from bowerbird.models import ModelsConfig, zoo
from bowerbird.rpc.clients import Detections, DetectorClient, connect
from bowerbird.testing import run_server
from bowerbird.v1 import detector_pb2
from services.detector.config import DetectorConfig
from services.detector.engine import DetectorEngine
from services.detector.server import build_services

ROOT = Path(__file__).parents[2]
PHOTOGRAPHS = ROOT / "tests/golden/pictures/photographs"
CAT = (PHOTOGRAPHS / "cat.jpg").read_bytes()
ASTRONAUT = (PHOTOGRAPHS / "astronaut.jpg").read_bytes()
COFFEE = (PHOTOGRAPHS / "coffee.jpg").read_bytes()
CONFIG = DetectorConfig(max_batch_size=4, max_queue=2, run_batch_size=2)

# A picture alone and in a batch goes through kernels of different shapes: additions in another order.
BATCH_TOLERANCE = 1e-4


def make_bomb() -> bytes:
    """A PNG of 60,000 x 60,000 pixels in a few hundred bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


BAD_PICTURES = {
    "empty": (b"", errors.ImageDecodeFailed),
    "text": (b"this is no picture", errors.ImageDecodeFailed),
    "truncated": (CAT[: len(CAT) // 3], errors.ImageDecodeFailed),
    "bomb": (make_bomb(), errors.ImageTooLarge),
    "many bytes": (CAT + bytes(8 * 2**20), errors.ImageTooLarge),
}


class Gate:
    """A runtime that computes only while it is open, and fails when told to."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self.open = threading.Event()
        self.open.set()
        self.failure: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def run(self, batch: Any) -> Any:
        assert self.open.wait(30)
        if self.failure is not None:
            raise self.failure
        return self._runtime.run(batch)


@dataclass
class Served:
    client: DetectorClient
    gate: Gate


@pytest.fixture(scope="module")
def module_served() -> Iterator[Served]:
    engine = DetectorEngine(CONFIG, PictureCache(2**24), ModelsConfig(cpu_threads=1))
    gate = Gate(engine._runtime)
    engine._runtime = gate  # type: ignore[assignment]
    with run_server(build_services(engine)) as (target, _), connect(target) as connection:
        yield Served(DetectorClient(connection), gate)


@pytest.fixture
def served(module_served: Served) -> Iterator[Served]:
    yield module_served
    module_served.gate.failure = None
    module_served.gate.open.set()


def labels_of(found: Detections) -> list[str]:
    return [detection.label for detection in found.detections]


# ------------------------------------------------------------------------------------------------------ what is good


def test_the_astronaut_is_a_person(served: Served) -> None:
    """Detect finds the person of the photograph where she is, and tells size, model and stages."""
    found = served.client.detect(ASTRONAUT)

    assert labels_of(found)[0] == "person"
    region = found.detections[0].region
    assert region.x_min < 0.2 and region.x_max > 0.6 and region.y_min < 0.2 and region.y_max > 0.9
    assert (found.width, found.height) == (512, 512)
    assert [model.name for model in found.info.models] == ["nanodet-g"]
    assert [stage for stage, _ in found.info.timings] == ["decode", "preprocess", "queue", "infer", "postprocess"]


def test_the_cat_and_the_cup_are_found(served: Served) -> None:
    """Other classes come with their labels."""
    assert "cat" in labels_of(served.client.detect(CAT))
    assert "cup" in labels_of(served.client.detect(COFFEE))


def test_detections_are_sorted_and_inside_the_picture(served: Served) -> None:
    """Best score first, none below the threshold, boxes in [0, 1] and never empty."""
    found = served.client.detect(COFFEE, min_score=0.05, max_detections=300)
    scores = [detection.score for detection in found.detections]

    assert len(scores) > 5
    assert scores == sorted(scores, reverse=True) and min(scores) >= 0.05
    for region in (detection.region for detection in found.detections):
        assert 0 <= region.x_min < region.x_max <= 1 and 0 <= region.y_min < region.y_max <= 1


def test_the_number_of_detections_is_bounded(served: Served) -> None:
    """Unset means 20; another number means the best so many."""
    by_default = served.client.detect(COFFEE, min_score=0.0)
    three = served.client.detect(COFFEE, min_score=0.0, max_detections=3)

    assert len(by_default.detections) == 20
    assert three.detections == by_default.detections[:3]


def test_only_wanted_labels_are_found(served: Served) -> None:
    """A label filter leaves the scores of its classes as they are, and applies before the bound."""
    everything = served.client.detect(CAT, min_score=0.1, max_detections=300)
    cats = served.client.detect(CAT, min_score=0.1, max_detections=300, labels=["cat"])

    assert cats.detections == tuple(entry for entry in everything.detections if entry.label == "cat")
    assert len(labels_of(served.client.detect(CAT, min_score=0.0, max_detections=2, labels=["zebra"]))) == 2


def test_a_batch_answers_as_its_pictures_alone(served: Served) -> None:
    """BatchDetect gives each picture what Detect gives it, in order."""
    batch = served.client.batch_detect([CAT, ASTRONAUT, COFFEE], min_score=0.3)

    for data, found in zip([CAT, ASTRONAUT, COFFEE], batch, strict=True):
        assert isinstance(found, Detections)
        alone = served.client.detect(data, min_score=0.3)
        assert labels_of(found) == labels_of(alone)
        scores = [[entry.score for entry in answer.detections] for answer in (found, alone)]
        np.testing.assert_allclose(scores[0], scores[1], atol=BATCH_TOLERANCE)
        assert (found.width, found.height) == (alone.width, alone.height)


def test_the_model_is_described(served: Served) -> None:
    """GetModel tells everything that a client has to know, by name or without."""
    model = served.client.get_model()

    assert model == served.client.get_model("nanodet-g")
    assert len(model.labels) == 80 and model.labels[0] == "person"
    assert (model.input_width, model.input_height, model.max_batch_size) == (416, 416, 4)
    assert model.default_min_score == pytest.approx(0.4)
    assert (model.model.version, model.backend) == (zoo.load("nanodet-g").sha256[:12], "onnxruntime-cpu")


def test_messages_are_those_of_the_contract(served: Served) -> None:
    """Models and stages stand once in a batch; an item error has position, code and reason."""
    stub = served.client.stub
    version = stub.GetModel(detector_pb2.DetectorServiceGetModelRequest()).model.version

    answer = stub.BatchDetect(
        detector_pb2.BatchDetectRequest(images=[{"data": CAT}, {"data": b"x"}], options={"labels": ["cat"]})
    )
    good, bad = answer.results

    assert [(model.name, model.version) for model in answer.info.models] == [("nanodet-g", version)]
    assert [timing.stage for timing in answer.info.timings] == ["decode", "queue", "infer", "postprocess"]
    assert [detection.label for detection in good.response.detections] == ["cat"]
    assert (bad.error.index, bad.error.code, bad.error.reason) == (1, 3, "IMAGE_DECODE_FAILED")


# ------------------------------------------------------------------------------------------------------- what is bad


@pytest.mark.parametrize("what", BAD_PICTURES)
def test_a_bad_picture_is_the_callers_fault(served: Served, what: str) -> None:
    """Detect refuses what is no picture we take."""
    data, kind = BAD_PICTURES[what]

    with pytest.raises(kind):
        served.client.detect(data)


@pytest.mark.parametrize("what", BAD_PICTURES)
def test_a_bad_picture_fails_alone_in_a_batch(served: Served, what: str) -> None:
    """The others of a batch are answered; the bad one has its error in its place."""
    data, kind = BAD_PICTURES[what]

    first, bad, last = served.client.batch_detect([CAT, data, CAT])

    assert type(bad) is kind
    assert isinstance(first, Detections) and "cat" in labels_of(first)
    assert isinstance(last, Detections) and labels_of(last) == labels_of(first)


def test_a_batch_of_bad_pictures_only_is_answered(served: Served) -> None:
    """Every picture has its own error when none is good."""
    assert [type(answer) for answer in served.client.batch_detect([b"", b"x"])] == [errors.ImageDecodeFailed] * 2


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_detections": 301}, "options.max_detections"),
        ({"min_score": 1.5}, "options.min_score"),
        ({"min_score": -0.5}, "options.min_score"),
        ({"min_score": float("nan")}, "options.min_score"),
        ({"labels": ["cat", "unicorn"]}, "options.labels"),
    ],
)
def test_options_out_of_range_are_refused_by_name(served: Served, options: dict[str, Any], field: str) -> None:
    """Alone and in a batch, the error names the option."""
    with pytest.raises(errors.ArgumentInvalid) as unary:
        served.client.detect(CAT, **options)
    with pytest.raises(errors.ArgumentInvalid) as batch:
        served.client.batch_detect([CAT], **options)

    assert unary.value.field == batch.value.field == field


def test_an_unknown_model_is_not_found(served: Served) -> None:
    """Every RPC refuses the name of a model that is not served."""
    for call in (
        lambda: served.client.detect(CAT, model="yolo"),
        lambda: served.client.batch_detect([CAT], model="yolo"),
        lambda: served.client.get_model("yolo"),
    ):
        with pytest.raises(errors.ModelNotFound, match="nanodet-g"):
            call()


@pytest.mark.parametrize("count", [0, 5])
def test_a_batch_has_a_size(served: Served, count: int) -> None:
    """No picture, or more than the model's limit, is refused whole."""
    with pytest.raises(errors.ArgumentInvalid, match=f"expected 1 to 4 images, got {count}"):
        served.client.batch_detect([CAT] * count)


def test_an_expired_deadline_ends_a_call(served: Served) -> None:
    """A call does not outlive its deadline, alone or in a batch."""
    served.gate.open.clear()

    with pytest.raises(errors.DeadlineExceeded):
        served.client.detect(CAT, timeout_s=0.2)
    with pytest.raises(errors.DeadlineExceeded):
        served.client.batch_detect([CAT, COFFEE], timeout_s=0.2)


def test_overload_is_shed_with_a_time_to_come_back(served: Served) -> None:
    """When the queue is full, a call is refused at once and told when to try again."""
    served.gate.open.clear()
    request = detector_pb2.DetectRequest(image={"data": CAT})
    calls = [threading.Thread(target=served.client.detect, args=(CAT,)) for _ in range(3)]
    for call in calls:
        call.start()
        time.sleep(0.15)  # one is running, two wait

    with pytest.raises(errors.QueueFull) as refused:
        served.client.connection.call(
            served.client.stub.Detect, request, service="bowerbird.v1.DetectorService", timeout_s=2
        )
    served.gate.open.set()
    for call in calls:
        call.join(10)

    assert refused.value.retry_after_s is not None and refused.value.retry_after_s > 0
    assert "cat" in labels_of(served.client.detect(CAT))


def test_a_failing_runtime_is_our_fault(served: Served) -> None:
    """Detect fails with INFERENCE_FAILED, a batch answers it per picture, and the next call works."""
    served.gate.failure = RuntimeError("out of memory")

    with pytest.raises(errors.InferenceFailed):
        served.client.detect(CAT)
    answers = served.client.batch_detect([CAT, b""])
    served.gate.failure = None

    assert [type(answer) for answer in answers] == [errors.InferenceFailed, errors.ImageDecodeFailed]
    assert "cat" in labels_of(served.client.detect(CAT))


def test_a_closed_engine_is_draining() -> None:
    """Calls after closing are refused as draining, so that a balancer tries another replica."""
    engine = DetectorEngine(CONFIG, PictureCache(0), ModelsConfig(cpu_threads=1))
    engine.close()

    with pytest.raises(errors.Draining):
        engine.detect(CAT)
    assert not engine.is_alive()


# ------------------------------------------------------------------------------------------------------ before it runs


def copy_zoo(folder: Path) -> Path:
    """A zoo whose detector has one flipped bit."""
    shutil.copytree(zoo.find_zoo(), folder / "zoo")
    model = folder / "zoo/nanodet-g.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    return folder / "zoo"


def test_a_process_with_a_corrupt_zoo_file_names_it_and_ends(tmp_path: Path) -> None:
    """`python -m services.detector` ends with code 2 and one line, without a stack."""
    environment = {"PATH": "/usr/bin:/bin", "BOWERBIRD_MODELS_ZOO_DIR": str(copy_zoo(tmp_path))}

    process = subprocess.run(
        [sys.executable, "-m", "services.detector"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert process.returncode == 2
    assert "nanodet-g.onnx has sha256" in process.stderr and process.stderr.count("\n") == 1


def test_a_model_of_another_kind_is_refused() -> None:
    """An embedder is no detector."""
    with pytest.raises(errors.ConfigInvalid, match="kind detector"):
        DetectorEngine(DetectorConfig(model="efficientnet-lite0"), PictureCache(0))


@pytest.mark.parametrize(
    "settings", [{"run_batch_size": 0}, {"max_queue": 0}, {"max_delay_s": 2.0}, {"cache_bytes": -1}]
)
def test_settings_are_checked_at_start(settings: dict[str, Any]) -> None:
    """A setting out of range is refused, by name."""
    with pytest.raises(errors.ConfigInvalid, match=next(iter(settings))):
        DetectorConfig(**settings)
