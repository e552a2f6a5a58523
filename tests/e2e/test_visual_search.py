"""User stories of visual search, against all services as one real process, with real pictures."""

from __future__ import annotations

import io
import itertools
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bowerbird.boxes import Region
from bowerbird.errors import BowerbirdError, ImageTokenExpired, ItemNotFound
from bowerbird.rpc import clients
from bowerbird.rpc.clients import DiscoveryClient, EmbedderClient, Item, RetrievalClient, SearchParams
from tests.e2e.conftest import PICTURES, Services

pytestmark = pytest.mark.e2e

CONCEPTS = sorted(path.stem for path in (PICTURES / "twemoji").glob("*.png"))
# With 30 concepts, chance is 0.03; the open model finds the twin of most drawings.
MIN_CROSS_STYLE_P_AT_1 = 0.5


def picture(style: str, concept: str) -> bytes:
    return (PICTURES / style / f"{concept}.png").read_bytes()


def index_style(connection: clients.Connection, style: str, concepts: list[str]) -> int:
    """Embed and write these drawings; the sequence of the write."""
    embedder, retrieval = EmbedderClient(connection), RetrievalClient(connection)
    model = embedder.get_model()
    retrieval.create_index(dimension=model.dimension, code_bits=model.code_bits, model=model.model)
    batch = embedder.batch_embed([picture(style, concept) for concept in concepts])
    assert not batch.errors
    items = [
        Item(f"{style}/{concept}", batch.embeddings[row], batch.codes[row], {"style": style, "concept": concept})
        for row, concept in enumerate(concepts)
    ]
    written = retrieval.upsert(items, model=model.model)
    assert written.written == len(concepts)
    return written.sequence


def scene(concepts: tuple[str, str, str, str]) -> bytes:
    """Four noto drawings, one in each quarter of a photograph, as a JPEG."""
    with Image.open(PICTURES / "photographs/coffee.jpg") as photograph:
        canvas = photograph.convert("RGB").resize((640, 640))
    for place, concept in enumerate(concepts):
        with Image.open(io.BytesIO(picture("noto", concept))) as drawing:
            canvas.paste(drawing.convert("RGB").resize((256, 256)), (32 + 320 * (place % 2), 32 + 320 * (place // 2)))
    out = io.BytesIO()
    canvas.save(out, "JPEG", quality=90)
    return out.getvalue()


def test_a_drawing_finds_the_same_concept_in_another_style(services: Services) -> None:
    """Searching with one artist's drawings finds the other artist's drawings of the same things."""
    with services.connect() as connection:
        sequence = index_style(connection, "twemoji", CONCEPTS)
        discovery = DiscoveryClient(connection)
        params = SearchParams(top_k=5, min_sequence=sequence)
        found = [discovery.search_by_image(picture("noto", concept), params=params).hits for concept in CONCEPTS]

    first = np.mean([hits[0].fields["concept"] == concept for hits, concept in zip(found, CONCEPTS, strict=True)])
    assert first >= MIN_CROSS_STYLE_P_AT_1
    assert all(len(hits) == 5 for hits in found)
    assert all(earlier.score >= later.score for hits in found for earlier, later in itertools.pairwise(hits))


def test_a_crop_finds_the_object_and_the_token_saves_the_upload(services: Services) -> None:
    """Each quarter of a scene finds its own object; the picture is uploaded once."""
    concepts = ("banana", "red-apple", "bicycle", "octopus")
    with services.connect() as connection:
        index_style(connection, "twemoji", CONCEPTS)
        discovery = DiscoveryClient(connection)
        whole = discovery.search_by_image(scene(concepts), params=SearchParams(top_k=3))
        found = []
        for place in range(4):
            left, top = 0.05 + 0.5 * (place % 2), 0.05 + 0.5 * (place // 2)
            region = Region(left, top, left + 0.4, top + 0.4)
            hits = discovery.search_by_region(whole.image_token, region, params=SearchParams(top_k=3)).hits
            found.append([hit.fields["concept"] for hit in hits])

    right = sum(concept in names for concept, names in zip(concepts, found, strict=True))
    assert right >= 3, found
    with services.connect() as connection, pytest.raises(ImageTokenExpired):
        DiscoveryClient(connection).search_by_region("0" * 32, Region(0.0, 0.0, 1.0, 1.0))


def test_a_photograph_shows_its_objects_and_they_can_be_searched(services: Services) -> None:
    """The cat photograph has a cat in it; a click on it searches that part."""
    photograph = (PICTURES / "photographs/cat.jpg").read_bytes()
    with services.connect() as connection:
        index_style(connection, "twemoji", CONCEPTS)
        discovery = DiscoveryClient(connection)
        analysis = discovery.analyze_image(photograph, min_score=0.3)
        assert "cat" in {region.label for region in analysis.regions}
        assert (analysis.width, analysis.height) == Image.open(io.BytesIO(photograph)).size
        cat = next(region for region in analysis.regions if region.label == "cat")
        hits = discovery.search_by_region(analysis.image_token, cat.region, params=SearchParams(top_k=10)).hits

    assert len(hits) == 10


def test_more_like_this_item_leaves_the_item_out(services: Services) -> None:
    """An item finds its twin of the other style among its neighbours, and never itself."""
    with services.connect() as connection:
        index_style(connection, "twemoji", CONCEPTS)
        index_style(connection, "noto", CONCEPTS)
        hits = DiscoveryClient(connection).search_by_item("noto/red-apple", params=SearchParams(top_k=5)).hits
        with pytest.raises(ItemNotFound):
            DiscoveryClient(connection).search_by_item("noto/no-such-thing")

    assert "noto/red-apple" not in {hit.item_id for hit in hits}
    assert "twemoji/red-apple" in {hit.item_id for hit in hits}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_restart_and_kill_lose_nothing(services: Services, number: signal.Signals) -> None:
    """What was acknowledged is found after a drain and after kill -9, with the same scores; deletes stay deleted."""
    query = picture("noto", "pizza")
    with services.connect() as connection:
        index_style(connection, "twemoji", CONCEPTS)
        RetrievalClient(connection).delete(["twemoji/whale"])
        before = DiscoveryClient(connection).search_by_image(query, params=SearchParams(top_k=30)).hits

    code = services.stop(number)
    services.start()

    with services.connect() as connection:
        after = DiscoveryClient(connection).search_by_image(query, params=SearchParams(top_k=30)).hits
    assert code == (0 if number is signal.SIGTERM else -signal.SIGKILL)
    assert [(hit.item_id, hit.fields) for hit in after] == [(hit.item_id, hit.fields) for hit in before]
    np.testing.assert_allclose([hit.score for hit in after], [hit.score for hit in before], atol=1e-5)
    assert len(after) == len(CONCEPTS) - 1
    assert "twemoji/whale" not in {hit.item_id for hit in after}


def test_two_clients_write_and_search_at_once(services: Services) -> None:
    """Two clients index different pictures at the same time while a third searches; in the end all is there."""
    half = len(CONCEPTS) // 2
    stop = threading.Event()

    def search_until_done() -> int:
        count = 0
        with services.connect() as connection:
            index_style(connection, "twemoji", CONCEPTS[:1])
            while not stop.is_set():
                DiscoveryClient(connection).search_by_image(picture("noto", "pizza"))
                count += 1
        return count

    def write(concepts: list[str]) -> None:
        with services.connect() as connection:
            for concept in concepts:
                index_style(connection, "noto", [concept])

    with ThreadPoolExecutor(3) as pool:
        searches = pool.submit(search_until_done)
        writers = [pool.submit(write, CONCEPTS[:half]), pool.submit(write, CONCEPTS[half:])]
        try:
            for writer in writers:
                writer.result(timeout=120)
        finally:
            stop.set()
        assert searches.result(timeout=60) > 0
    with services.connect() as connection:
        ids = {item.item_id for item in RetrievalClient(connection).list_items(filter="style=noto")}
    assert ids == {f"noto/{concept}" for concept in CONCEPTS}


def test_sigterm_lets_the_calls_under_way_finish(services: Services) -> None:
    """A drain answers what it has accepted and exits with 0."""
    outcomes: list[bool] = []

    def embed() -> None:
        with services.connect() as connection:
            batch = EmbedderClient(connection).batch_embed([picture("noto", concept) for concept in CONCEPTS])
            outcomes.append(len(batch.errors) == 0)

    thread = threading.Thread(target=embed)
    with services.connect() as connection:
        EmbedderClient(connection).embed(picture("noto", "pizza"))
        thread.start()
        threading.Event().wait(0.1)
        code = services.stop(signal.SIGTERM)
    thread.join(30)

    assert code == 0
    assert outcomes == [True]


def test_a_second_server_on_the_same_data_or_port_is_refused(services: Services, tmp_path: Path) -> None:
    """A second process on the same data directory, or on the same port, says so and ends."""
    same_data = Services(services.data_dir)
    same_port = Services(tmp_path / "other")
    same_data.log_path = tmp_path / "same-data.log"
    same_port.port = services.port
    for second, word in ((same_data, str(services.data_dir)), (same_port, str(services.port))):
        assert second.spawn().wait(30) not in (0, None)
        assert word in second.log_path.read_text()
    with services.connect() as connection:
        assert connection.health()


def test_a_dead_server_is_named(services: Services) -> None:
    """After the server is gone a call fails with a message that names the target."""
    services.stop()
    with services.connect() as connection, pytest.raises(BowerbirdError, match=services.target):
        EmbedderClient(connection).embed(picture("noto", "pizza"), timeout_s=2.0)
