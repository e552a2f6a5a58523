"""What the heads of an embedder say, over in-process gRPC: as asked, beside the vectors, and refused by name."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from bowerbird import errors
from bowerbird.boxes import Region
from bowerbird.images import PictureCache
from bowerbird.models import ModelsConfig, zoo
from bowerbird.models.preprocessing import make_batch
from bowerbird.rpc.clients import EmbedderClient, Head, connect
from bowerbird.testing import run_server
from bowerbird.v1 import embedder_pb2, types_pb2
from services.embedder import heads
from services.embedder.config import EmbedderConfig
from services.embedder.engine import EmbedderEngine
from services.embedder.server import build_services
from tests.tiny_zoo import BIAS, LABELS, MIN_SCORE, TEMPERATURE, TinyModel, write_tiny_embedder

HEADS = ["category", "annotations", "drawn skin tone"]
TOLERANCE = 1e-5  # float32 sums in another order
FUZZED_REQUESTS = 300


def draw(colour: tuple[int, int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(out, "PNG")
    return out.getvalue()


COLOURS = [(200, 30, 40), (20, 180, 90), (250, 240, 10), (5, 5, 120)]
PICTURES = [draw(colour) for colour in COLOURS]


@dataclass
class Served:
    client: EmbedderClient
    model: TinyModel

    def expect(
        self, number: int, head: str, *, top: int = 10, min_score: float | None = None
    ) -> list[tuple[str, float]]:
        """Labels and scores of one of PICTURES, computed with NumPy."""
        pixels = np.full((30, 40, 3), COLOURS[number], np.uint8)
        raw = self.model.compute(make_batch([pixels], zoo.load("tiny", zoo_dir=self.model.folder).input))[head][0]
        logits = raw.astype(np.float64) / TEMPERATURE[head]
        if head == "annotations":
            scores = 1 / (1 + np.exp(-(logits + BIAS[head])))
        else:
            scores = np.exp(logits) / np.exp(logits).sum()
        least = MIN_SCORE.get(head, 0.0) if min_score is None else min_score
        pairs = sorted(zip(LABELS[head], scores.tolist(), strict=True), key=lambda pair: -pair[1])[:top]
        return [pair for pair in pairs if pair[1] >= least]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    model = write_tiny_embedder(tmp_path_factory.mktemp("zoo"))
    config = EmbedderConfig(model="tiny", max_batch_size=12, run_batch_size=4, max_delay_s=0.02)
    engine = EmbedderEngine(config, PictureCache(2**20), ModelsConfig(cpu_threads=2, zoo_dir=model.folder))
    with run_server(build_services(engine)) as (target, _), connect(target) as connection:
        yield Served(EmbedderClient(connection), model)


def assert_labels(found: Any, expected: list[tuple[str, float]]) -> None:
    assert [label for label, _ in found] == [label for label, _ in expected]
    np.testing.assert_allclose([score for _, score in found], [score for _, score in expected], atol=TOLERANCE)


def test_nothing_asked_is_todays_answer(served: Served) -> None:
    """A request without options gets embedding and code, and no message that older clients do not know."""
    answer = served.client.stub.Embed(embedder_pb2.EmbedRequest(input={"image": {"data": PICTURES[0]}}))
    batch = served.client.stub.BatchEmbed(embedder_pb2.BatchEmbedRequest(inputs=[{"image": {"data": PICTURES[0]}}]))

    assert {field.name for field, _ in answer.ListFields()} == {"info", "embedding", "code"}
    assert {field.name for field, _ in batch.ListFields()} == {"info", "embeddings", "codes"}


@pytest.mark.parametrize("head", HEADS)
def test_a_head_answers_with_its_labels(served: Served, head: str) -> None:
    """Labels come best first, with the scores that the card's kind, temperature and bias give; vectors stay away."""
    for number, picture in enumerate(PICTURES):
        answer = served.client.embed(picture, return_fields=[head])

        assert list(answer.labels) == [head]
        assert_labels(answer.labels[head], served.expect(number, head))
        assert answer.embedding.size == answer.code.size == 0


def test_everything_comes_when_all_is_asked(served: Served) -> None:
    """ "*" gives embedding, code and every head in the order of the model; scores of classes sum to 1."""
    answer = served.client.embed(PICTURES[1], return_fields=["*"])

    assert list(answer.labels) == HEADS
    assert np.linalg.norm(answer.embedding) == pytest.approx(1, abs=TOLERANCE) and answer.code.size == 8
    assert sum(score for _, score in answer.labels["category"]) == pytest.approx(1, abs=TOLERANCE)
    np.testing.assert_array_equal(answer.embedding, served.client.embed(PICTURES[1]).embedding)


def test_attributes_are_the_other_heads(served: Served) -> None:
    """Category and annotations are asked for by name; what else a model tells of a picture is an attribute."""
    answer = served.client.embed(PICTURES[0], return_fields=["attributes", "code"])

    assert list(answer.labels) == ["drawn skin tone"] and answer.code.size


def test_the_caller_chooses_how_many_and_how_sure(served: Served) -> None:
    """top_labels bounds each head, min_score replaces the card's default, 0 included."""
    few = served.client.embed(PICTURES[2], return_fields=["annotations"], top_labels=3, min_score=0.0)
    all_of_them = served.client.embed(PICTURES[2], return_fields=["annotations"], top_labels=1000, min_score=0.0)
    sure = served.client.embed(PICTURES[2], return_fields=["annotations"], top_labels=1000, min_score=0.6)
    none = served.client.embed(PICTURES[2], return_fields=["annotations"], min_score=1.0)

    assert_labels(few.labels["annotations"], served.expect(2, "annotations", top=3, min_score=0.0))
    assert len(all_of_them.labels["annotations"]) == len(LABELS["annotations"])
    assert_labels(sure.labels["annotations"], served.expect(2, "annotations", top=1000, min_score=0.6))
    assert none.labels == {"annotations": []}


def test_a_batch_answers_as_its_pictures_alone(served: Served) -> None:
    """BatchEmbed gives each input its labels; a bad picture has none and its error, its neighbours have theirs."""
    batch = served.client.batch_embed([PICTURES[0], b"no picture", *PICTURES[1:]], return_fields=["*"])

    assert list(batch.errors) == [1] and batch.labels[1] == {}
    for row, number in [(0, 0), (2, 1), (3, 2), (4, 3)]:
        for head in HEADS:
            assert_labels(batch.labels[row][head], served.expect(number, head))
    assert batch.embeddings.shape == (5, 64) and not batch.embeddings[1].any()


def test_a_batch_of_labels_alone_has_no_vectors(served: Served) -> None:
    """Vectors that nobody asked for do not travel."""
    batch = served.client.batch_embed(PICTURES, return_fields=["category"])

    assert batch.embeddings.shape == batch.codes.shape == (4, 0)
    assert [list(labels) for labels in batch.labels] == [["category"]] * 4


def test_a_region_has_labels_of_its_own(served: Served) -> None:
    """The heads look at what the vector is of."""
    halves = Image.new("RGB", (40, 30), COLOURS[0])
    halves.paste(COLOURS[1], (20, 0, 40, 30))
    out = io.BytesIO()
    halves.save(out, "PNG")

    left = served.client.embed(out.getvalue(), Region(0.0, 0.0, 0.5, 1.0), return_fields=["category"])

    assert_labels(left.labels["category"], served.expect(0, "category"))


def test_calls_that_want_different_things_share_a_run(served: Served) -> None:
    """Concurrent calls are computed together, and each gets what it asked for."""
    asked = [[], ["category"], ["annotations"], ["*"], ["drawn skin tone", "code"]] * 8
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda fields: served.client.embed(PICTURES[0], return_fields=fields), asked))

    for fields, answer in zip(asked, answers, strict=True):
        heads = HEADS if "*" in fields else [head for head in HEADS if head in fields]
        assert list(answer.labels) == heads
        for head in heads:
            assert_labels(answer.labels[head], served.expect(0, head))


def test_the_model_lists_its_heads(served: Served) -> None:
    """GetModel names each head, whether its labels exclude each other, and how many there are."""
    assert served.client.get_model().heads == (
        Head("category", exclusive=True, labels=3, default_min_score=0.0),
        Head("annotations", exclusive=False, labels=40, default_min_score=pytest.approx(0.3)),
        Head("drawn skin tone", exclusive=True, labels=3, default_min_score=0.0),
    )


def test_a_head_that_is_not_there_is_refused_by_name(served: Served) -> None:
    """The message says what the model lacks and what it has; a batch is refused whole."""
    for call in (
        lambda: served.client.embed(PICTURES[0], return_fields=["category", "style"]),
        lambda: served.client.batch_embed(PICTURES, return_fields=["style"]),
    ):
        with pytest.raises(
            errors.ArgumentInvalid, match=r"gives no 'style'; its heads are category, annotations, drawn"
        ) as refused:
            call()
        assert refused.value.field == "options.return_fields"


def test_a_model_without_heads_says_so(tmp_path: Path) -> None:
    """Heads and attributes of a model that has none are refused; "*" is what there is."""
    write_tiny_embedder(tmp_path, with_heads=False)
    models = ModelsConfig(cpu_threads=1, zoo_dir=tmp_path)
    engine = EmbedderEngine(EmbedderConfig(model="tiny"), PictureCache(0), models)
    with run_server(build_services(engine)) as (target, _), connect(target) as connection:
        client = EmbedderClient(connection)
        for field in ("annotations", "attributes"):
            with pytest.raises(errors.ArgumentInvalid, match=f"gives no '{field}'; it has no heads"):
                client.embed(PICTURES[0], return_fields=[field])
        assert client.embed(PICTURES[0], return_fields=["*"]).labels == {}
        assert client.get_model().heads == ()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"top_labels": 1001}, "options.top_labels"),
        ({"top_labels": -1}, "options.top_labels"),
        ({"min_score": -0.1}, "options.min_score"),
        ({"min_score": 1.01}, "options.min_score"),
        ({"min_score": math.nan}, "options.min_score"),
        ({"min_score": math.inf}, "options.min_score"),
        ({"return_fields": [""]}, "options.return_fields"),
        ({"return_fields": ["Category"]}, "options.return_fields"),
    ],
)
def test_numbers_out_of_range_are_refused(served: Served, options: dict[str, Any], field: str) -> None:
    """The field at fault is named, whether a head was asked for or not."""
    with pytest.raises(errors.ArgumentInvalid) as refused:
        served.client.embed(PICTURES[0], **options)
    assert refused.value.field == field


def test_more_labels_than_an_answer_holds_are_refused_before_computing(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of inputs counts; what is left out of the answer does not."""
    a_picture = sum(len(LABELS[head]) for head in HEADS)
    monkeypatch.setattr(heads, "MAX_LABELS_A_BATCH", 4 * a_picture - 1)
    with pytest.raises(errors.ArgumentInvalid, match="send fewer inputs at once") as refused:
        served.client.batch_embed(PICTURES, return_fields=["*"], top_labels=1000)
    assert refused.value.field == "options.top_labels"
    assert len(served.client.batch_embed(PICTURES[:3], return_fields=["*"], top_labels=1000).labels) == 3
    assert len(served.client.batch_embed(PICTURES, return_fields=["*"], top_labels=1).labels) == 4


def test_random_requests_never_break_the_server(served: Served) -> None:
    """Whatever is asked is answered or refused as the caller's fault, and the next good call works."""
    dice = random.Random(7)
    fields = [*HEADS, "*", "embedding", "code", "attributes", "", "x" * 5000, "\0", "category ", "🎨"]
    numbers = [0.0, 0.5, 1.0, -1.0, 2.0, math.nan, math.inf, 1e-45]
    pictures = [*PICTURES, b"", b"\x89PNG", bytes(50)]
    good = {grpc.StatusCode.OK: 0, grpc.StatusCode.INVALID_ARGUMENT: 0}
    for _ in range(FUZZED_REQUESTS):
        options = embedder_pb2.EmbedOptions(
            return_fields=dice.choices(fields, weights=[9] * 7 + [1] * 5, k=dice.randrange(4)),
            top_labels=dice.choice([0, 1, 7, 1000, 1001, 2**32 - 1]),
            min_score=dice.choice([None, *numbers]),
        )
        region = types_pb2.Region(x_min=dice.choice(numbers), x_max=dice.choice(numbers), y_max=1.0)
        entries = [
            embedder_pb2.EmbedInput(image={"data": dice.choice(pictures)}, region=dice.choice([None, None, region]))
            for _ in range(dice.randrange(5))
        ]
        data_type = dice.choice([0, 0, 1, 2, 3, 77])
        request: Any = embedder_pb2.BatchEmbedRequest(inputs=entries, options=options, data_type=data_type)
        method = served.client.stub.BatchEmbed
        if len(entries) == 1:
            request = embedder_pb2.EmbedRequest(input=entries[0], options=options, data_type=data_type)
            method = served.client.stub.Embed
        try:
            method(request, timeout=20)
            good[grpc.StatusCode.OK] += 1
        except grpc.RpcError as error:
            good[error.code()] += 1  # a KeyError here is a status that blames somebody else than the caller

    assert min(good.values()) > FUZZED_REQUESTS / 20
    assert served.client.embed(PICTURES[0], return_fields=["*"]).labels
