"""The embedder over in-process gRPC: every RPC, every reason it can fail with, and batches with bad pictures."""

from __future__ import annotations

import io
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
from PIL import Image

from bowerbird import errors
from bowerbird.boxes import Region
from bowerbird.images import PictureCache
from bowerbird.models import ModelsConfig, zoo
from bowerbird.rpc.clients import EmbedderClient, connect
from bowerbird.rpc.server import Server
from bowerbird.testing import run_server
from bowerbird.v1 import embedder_pb2, types_pb2
from services.embedder.config import EmbedderConfig
from services.embedder.engine import EmbedderEngine
from services.embedder.server import build_services

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "tests/golden/pictures"
CAT = (PICTURES / "photographs/cat.jpg").read_bytes()
COFFEE = (PICTURES / "photographs/coffee.jpg").read_bytes()
BANANA = (PICTURES / "noto/banana.png").read_bytes()
CONFIG = EmbedderConfig(max_batch_size=12, max_queue=2, max_pending=16, run_batch_size=2)
DIMENSION, CODE_BYTES = 1280, 32

# A picture alone and in a batch goes through kernels of different shapes: additions in another order.
BATCH_TOLERANCE = 1e-5
HALF_TOLERANCE = 1e-3  # float16 keeps 11 bits


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
    "corrupt": (b"\x89PNG\r\n\x1a\n" + bytes(200), errors.ImageDecodeFailed),
    "bomb": (make_bomb(), errors.ImageTooLarge),
    "many bytes": (CAT + bytes(8 * 2**20), errors.ImageTooLarge),
}
BAD_REGIONS = {
    "inverted": (0.6, 0.1, 0.4, 0.9),
    "empty": (0.5, 0.5, 0.5, 0.5),
    "outside": (0.5, 0.5, 1.5, 1.0),
    "negative": (-0.1, 0.0, 0.5, 0.5),
    "not finite": (0.0, 0.0, float("nan"), 1.0),
}


class Gate:
    """A runtime that computes only while it is open, and fails when told to."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.failure: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def run(self, batch: Any, outputs: Any = None) -> Any:
        self.entered.set()
        assert self.open.wait(30)
        if self.failure is not None:
            raise self.failure
        return self._runtime.run(batch, outputs)


@dataclass
class Served:
    client: EmbedderClient
    server: Server
    gate: Gate


@pytest.fixture(scope="module")
def engine() -> EmbedderEngine:
    return EmbedderEngine(CONFIG, PictureCache(2**24), ModelsConfig(cpu_threads=1))


@pytest.fixture(scope="module")
def module_served(engine: EmbedderEngine) -> Iterator[Served]:
    gate = Gate(engine._runtime)
    engine._runtime = gate  # type: ignore[assignment]
    engine._bulk._engine = gate
    with run_server(build_services(engine)) as (target, server), connect(target) as connection:
        yield Served(EmbedderClient(connection), server, gate)


@pytest.fixture
def served(module_served: Served) -> Iterator[Served]:
    module_served.gate.entered.clear()
    yield module_served
    module_served.gate.failure = None
    module_served.gate.open.set()


# ------------------------------------------------------------------------------------------------------ what is good


def test_a_picture_becomes_a_vector_and_a_code(served: Served) -> None:
    """Embed answers with a unit vector, a code, the model and the time of each stage."""
    answer = served.client.embed(CAT)

    assert answer.embedding.shape == (DIMENSION,)
    assert np.linalg.norm(answer.embedding) == pytest.approx(1.0, abs=1e-5)
    assert answer.code.shape == (CODE_BYTES,)
    assert [model.name for model in answer.info.models] == ["efficientnet-lite0"]
    assert [stage for stage, _ in answer.info.timings] == ["decode", "preprocess", "queue", "infer"]


def test_the_same_picture_gives_the_same_vector_again(served: Served) -> None:
    """Embedding is repeatable, from the cache as from the file."""
    np.testing.assert_array_equal(served.client.embed(BANANA).embedding, served.client.embed(BANANA).embedding)


def test_a_region_equals_the_cut_out_picture(served: Served) -> None:
    """The vector of a region is that of a file that shows only the region."""
    pixels = Image.open(io.BytesIO(BANANA)).convert("RGBA")
    half = pixels.crop((0, 0, pixels.width // 2, pixels.height))
    out = io.BytesIO()
    half.save(out, "PNG")

    region = served.client.embed(BANANA, Region(0.0, 0.0, 0.5, 1.0)).embedding

    np.testing.assert_allclose(region, served.client.embed(out.getvalue()).embedding, atol=BATCH_TOLERANCE)
    assert region @ served.client.embed(BANANA).embedding < 0.999


def test_half_precision_is_the_same_vector(served: Served) -> None:
    """FLOAT16 halves the bytes and keeps the values to its precision."""
    stub = served.client.stub
    request = embedder_pb2.EmbedRequest(input={"image": {"data": CAT}}, data_type=types_pb2.DATA_TYPE_FLOAT16)

    vector = stub.Embed(request).embedding

    assert (len(vector.values), vector.data_type, vector.dimension) == (
        2 * DIMENSION,
        types_pb2.DATA_TYPE_FLOAT16,
        DIMENSION,
    )
    half = np.frombuffer(vector.values, np.float16)
    np.testing.assert_allclose(half, served.client.embed(CAT).embedding, atol=HALF_TOLERANCE)


def test_a_batch_answers_as_its_pictures_alone(served: Served) -> None:
    """BatchEmbed gives each row the vector and code that Embed gives, in order; a region too."""
    region = Region(0.1, 0.1, 0.8, 0.9)

    batch = served.client.batch_embed([CAT, (COFFEE, region), BANANA])
    alone = [served.client.embed(CAT), served.client.embed(COFFEE, region), served.client.embed(BANANA)]

    assert not batch.errors
    np.testing.assert_allclose(batch.embeddings, [answer.embedding for answer in alone], atol=BATCH_TOLERANCE)
    changed_bits = np.unpackbits(batch.codes ^ np.stack([answer.code for answer in alone])).sum()
    assert changed_bits <= 2  # a projection next to zero may round to the other side
    assert {stage for stage, _ in batch.info.timings} == {"decode", "preprocess", "infer"}


def test_similar_pictures_are_closer_than_others(served: Served) -> None:
    """The same thing in another style is nearer than another thing."""
    twin = (PICTURES / "twemoji/banana.png").read_bytes()
    other = (PICTURES / "twemoji/bicycle.png").read_bytes()

    query, same, different = served.client.batch_embed([BANANA, twin, other]).embeddings

    assert query @ same > query @ different


def test_the_model_is_described(served: Served) -> None:
    """GetModel tells everything that a client has to know, by name or without."""
    model = served.client.get_model()

    assert model == served.client.get_model("efficientnet-lite0")
    assert (model.dimension, model.code_bits, model.max_batch_size) == (DIMENSION, 8 * CODE_BYTES, 12)
    assert (model.input_width, model.input_height, model.backend) == (224, 224, "onnxruntime-cpu")
    assert model.model.version == zoo.load("efficientnet-lite0").sha256[:12]


# ------------------------------------------------------------------------------------------------------- what is bad


@pytest.mark.parametrize("what", BAD_PICTURES)
def test_a_bad_picture_is_the_callers_fault(served: Served, what: str) -> None:
    """Embed refuses what is no picture we take, with the reason and the field."""
    data, kind = BAD_PICTURES[what]

    with pytest.raises(kind):
        served.client.embed(data)


@pytest.mark.parametrize("what", BAD_PICTURES)
def test_a_bad_picture_fails_alone_in_a_batch(served: Served, what: str) -> None:
    """The other inputs of a batch are embedded; the row of the bad one is zero and its error says why."""
    data, kind = BAD_PICTURES[what]

    batch = served.client.batch_embed([BANANA, data, BANANA])

    assert [(index, type(error)) for index, error in batch.errors.items()] == [(1, kind)]
    assert not batch.embeddings[1].any() and not batch.codes[1].any()
    np.testing.assert_allclose(batch.embeddings[0], served.client.embed(BANANA).embedding, atol=BATCH_TOLERANCE)
    np.testing.assert_array_equal(batch.embeddings[0], batch.embeddings[2])


@pytest.mark.parametrize("what", BAD_REGIONS)
def test_a_bad_region_is_the_callers_fault(served: Served, what: str) -> None:
    """A region that is empty, inverted, not finite or outside is refused, alone and in a batch."""
    x_min, y_min, x_max, y_max = BAD_REGIONS[what]
    region = types_pb2.Region(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max)
    entry = embedder_pb2.EmbedInput(image={"data": BANANA}, region=region)
    good = embedder_pb2.EmbedInput(image={"data": BANANA})

    with pytest.raises(errors.RegionOutOfRange):
        served.client.connection.call(
            served.client.stub.Embed, embedder_pb2.EmbedRequest(input=entry), service="bowerbird.v1.EmbedderService"
        )
    answer = served.client.stub.BatchEmbed(embedder_pb2.BatchEmbedRequest(inputs=[entry, good]))

    assert [(error.index, error.reason) for error in answer.errors] == [(0, "REGION_OUT_OF_RANGE")]


def test_an_unknown_model_is_not_found(served: Served) -> None:
    """Every RPC refuses the name of a model that is not served."""
    for call in (
        lambda: served.client.embed(BANANA, model="resnet"),
        lambda: served.client.batch_embed([BANANA], model="resnet"),
        lambda: served.client.get_model("resnet"),
    ):
        with pytest.raises(errors.ModelNotFound, match="efficientnet-lite0"):
            call()


@pytest.mark.parametrize("count", [0, 13])
def test_a_batch_has_a_size(served: Served, count: int) -> None:
    """No input, or more than the model's limit, is refused whole."""
    with pytest.raises(errors.ArgumentInvalid, match=f"expected 1 to 12 inputs, got {count}"):
        served.client.batch_embed([BANANA] * count)


def test_a_binary_embedding_is_refused(served: Served) -> None:
    """The float vector has a float type; the code comes beside it anyway."""
    request = embedder_pb2.EmbedRequest(input={"image": {"data": BANANA}}, data_type=types_pb2.DATA_TYPE_BINARY)

    with pytest.raises(errors.ArgumentInvalid, match="FLOAT32 or FLOAT16"):
        served.client.connection.call(served.client.stub.Embed, request, service="bowerbird.v1.EmbedderService")


def test_an_expired_deadline_ends_a_call(served: Served) -> None:
    """A call does not outlive its deadline, and what expired in the queue is never computed."""
    served.gate.open.clear()

    with pytest.raises(errors.DeadlineExceeded):
        served.client.embed(BANANA, timeout_s=0.2)
    with pytest.raises(errors.DeadlineExceeded):
        served.client.batch_embed([BANANA] * 12, timeout_s=0.2)


def test_the_rest_of_a_late_batch_is_not_computed(served: Served, engine: EmbedderEngine) -> None:
    """Chunks that have not begun when the deadline passes are dropped, and the call says so."""
    from services.embedder.engine import EmbedInput

    with pytest.raises(errors.ExpiredInQueue):
        engine.embed_batch([EmbedInput(BANANA)], deadline=time.monotonic() - 1)
    with pytest.raises(errors.Cancelled):
        engine.embed_batch([EmbedInput(BANANA)], is_cancelled=lambda: True)

    assert not served.gate.entered.is_set()


def test_overload_is_shed_with_a_time_to_come_back(served: Served) -> None:
    """When the queues are full, both paths refuse at once and say when to try again."""
    served.gate.open.clear()
    calls = [threading.Thread(target=served.client.embed, args=(BANANA,)) for _ in range(3)]
    calls += [threading.Thread(target=served.client.batch_embed, args=([BANANA] * 12,))]
    for call in calls:
        call.start()
        time.sleep(0.15)  # one is running, two wait, and a batch is under way

    with pytest.raises(errors.QueueFull) as unary:
        served.client.connection.call(
            served.client.stub.Embed,
            embedder_pb2.EmbedRequest(input={"image": {"data": BANANA}}),
            service="bowerbird.v1.EmbedderService",
            timeout_s=2,
        )
    with pytest.raises(errors.QueueFull) as batch:
        served.client.batch_embed([BANANA] * 12, timeout_s=2)
    served.gate.open.set()
    for call in calls:
        call.join(10)

    assert unary.value.retry_after_s is not None and unary.value.retry_after_s > 0
    assert batch.value.retry_after_s is not None and batch.value.retry_after_s > 0
    assert served.client.batch_embed([BANANA]).embeddings.any()


def test_a_failing_runtime_is_our_fault(served: Served) -> None:
    """Embed fails with INFERENCE_FAILED, a batch answers it per input, and the next call works."""
    served.gate.failure = errors.InferenceFailed("efficientnet-lite0 failed")

    with pytest.raises(errors.InferenceFailed):
        served.client.embed(BANANA)
    batch = served.client.batch_embed([BANANA, COFFEE])
    served.gate.failure = None

    assert [type(error) for error in batch.errors.values()] == [errors.InferenceFailed] * 2
    assert served.client.embed(BANANA).embedding.any()


def test_a_closed_engine_is_draining() -> None:
    """Calls after closing are refused as draining, so that a balancer tries another replica."""
    engine = EmbedderEngine(CONFIG, PictureCache(0), ModelsConfig(cpu_threads=1))
    engine.close()

    with pytest.raises(errors.Draining):
        engine.embed(BANANA)


# ------------------------------------------------------------------------------------------------------ before it runs


def copy_zoo(folder: Path, *, flip: bool) -> Path:
    shutil.copytree(zoo.find_zoo(), folder / "zoo")
    model = folder / "zoo/efficientnet-lite0.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= flip
    model.write_bytes(content)
    return folder / "zoo"


def test_a_corrupt_zoo_file_is_named_and_refused(tmp_path: Path) -> None:
    """One flipped bit in the model file keeps the engine from being built; the intact copy is served."""
    with pytest.raises(errors.ModelFileCorrupt, match=r"efficientnet-lite0\.onnx has sha256"):
        EmbedderEngine(CONFIG, PictureCache(0), ModelsConfig(zoo_dir=copy_zoo(tmp_path / "a", flip=True)))
    EmbedderEngine(CONFIG, PictureCache(0), ModelsConfig(zoo_dir=copy_zoo(tmp_path / "b", flip=False))).close()


def test_a_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    """`python -m services.embedder` ends with code 2 and one line, without a stack."""
    environment = {"PATH": "/usr/bin:/bin", "BOWERBIRD_MODELS_ZOO_DIR": str(copy_zoo(tmp_path, flip=True))}

    process = subprocess.run(
        [sys.executable, "-m", "services.embedder"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert process.returncode == 2
    assert process.stderr.startswith("cannot start: model file") and process.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "settings", [{"chunk_size": 0}, {"max_pending": 1}, {"max_delay_s": -1.0}, {"cache_bytes": -1}]
)
def test_settings_are_checked_at_start(settings: dict[str, Any]) -> None:
    """A setting out of range is refused, by name."""
    with pytest.raises(errors.ConfigInvalid, match=next(iter(settings))):
        EmbedderConfig(**settings)
