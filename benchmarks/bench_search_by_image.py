"""SearchByImage end to end, beside the sum of its stages in process; and the cold start of all services.

The server is `python -m services` in a process of its own, over an index of 15,000 items. The stages (decode, detect,
embed, search) run one after the other in this process, on the same engines and the same items. Both take turns, and
every call brings a JPEG that was not seen before, so that nothing comes out of a cache. Target: p50 end to end, regions
included, at most 1.15 times the p50 of the sum; ready within 5 s. Without regions the sum is so short that the fixed
price of a call shows; that row has no target.
"""

from __future__ import annotations

import io
import itertools
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from benchmarks import report
from bowerbird import vectors
from bowerbird.images import PictureCache
from bowerbird.rpc.clients import Connection, DiscoveryClient, SearchParams, connect
from services.detector.config import DetectorConfig
from services.detector.engine import DetectorEngine
from services.embedder.config import EmbedderConfig
from services.embedder.engine import EmbedderEngine
from services.retrieval import items as retrieval_items
from services.retrieval.config import RetrievalConfig
from services.retrieval.engine import RetrievalEngine

ITEMS = 15_000
TOP_K = 25
WIDTH, HEIGHT, QUALITY = 640, 427, 85
CALLS, QUICK_CALLS = 200, 20
STARTS, QUICK_STARTS = 3, 1
WRITE_ITEMS = 1000
SEED = 7
T = TypeVar("T")
PHOTO = report.REPOSITORY / "tests/golden/pictures/photographs/coffee.jpg"
STAGES = ("decode", "detect", "embed", "search")


def fresh_photos() -> Iterator[bytes]:
    """The same photograph as ever new files: each carries another comment, so no cache knows it."""
    out = io.BytesIO()
    photo = Image.open(PHOTO).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    photo.save(out, "JPEG", quality=QUALITY)
    data = out.getvalue()
    for number in itertools.count():
        comment = f"{number:012d}".encode()
        yield data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]


def fill(folder: Path, embedder: EmbedderEngine) -> None:
    """An index of ITEMS random unit vectors with their codes, made by the served model as far as anybody can tell."""
    info, rng = embedder.info, np.random.default_rng(SEED)
    model = retrieval_items.ModelRef(info.name, info.version)
    engine = RetrievalEngine.open(RetrievalConfig(data_dir=folder))
    engine.create_index("default", dimension=info.dimension, code_bits=info.code_bits, model=model)
    for start in range(0, ITEMS, WRITE_ITEMS):
        rows = vectors.normalize(rng.standard_normal((WRITE_ITEMS, info.dimension)).astype(np.float32))
        codes = vectors.pack_code(rows[:, : info.code_bits])
        batch = [
            retrieval_items.Item(f"item-{start + i}", row.astype(np.float16), code, {"path": f"{start + i}.png"})
            for i, (row, code) in enumerate(zip(rows, codes, strict=True))
        ]
        engine.upsert_items("default", batch, model)
    engine.close()


@contextmanager
def served(data_dir: Path) -> Iterator[tuple[Connection, float]]:
    """A connection to `python -m services` over the directory, and the seconds from exec to ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"PORT": str(port), "ADMIN_PORT": "-1", "DRAIN_DELAY_S": "0", "LOG_LEVEL": "error"}
    environment = os.environ | {f"BOWERBIRD_SERVER_{name}": value for name, value in settings.items()}
    environment["BOWERBIRD_RETRIEVAL_DATA_DIR"] = str(data_dir)
    started_at = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "services"], cwd=report.REPOSITORY, env=environment)
    try:
        wait_for_listener(port)  # a channel would sit out its pause between attempts, which is not the server's time
        with connect(f"127.0.0.1:{port}") as connection:
            connection.wait_ready(60)
            yield connection, time.perf_counter() - started_at
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def wait_for_listener(port: int, timeout_s: float = 60.0) -> None:
    """Return as soon as something listens on the port."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise TimeoutError(f"nothing listens on port {port} after {timeout_s:g} s")


class InProcess:
    """The stages of a search on engines of this process, and how long each took."""

    def __init__(self, cache: PictureCache, detector: DetectorEngine, embedder: EmbedderEngine, data_dir: Path) -> None:
        self.cache, self.detector, self.embedder = cache, detector, embedder
        self.retrieval = RetrievalEngine.open(RetrievalConfig(data_dir=data_dir))
        self.params = retrieval_items.SearchParams(top_k=TOP_K, return_fields=("*",))
        self.seconds: dict[str, list[float]] = {stage: [] for stage in STAGES}

    def search(self, data: bytes, *, detect: bool) -> list[str]:
        """Item ids, best first."""
        self._time("decode", lambda: self.cache.get_or_decode(data, 1))
        if detect:
            self._time("detect", lambda: self.detector.detect(data))
        found = self._time("embed", lambda: self.embedder.embed(data))
        result = self._time(
            "search",
            lambda: self.retrieval.search("default", found.embedding[None], found.code[None], self.params),
        )
        return [hit.item_id for hit in result.hits[0]]

    def _time(self, stage: str, call: Callable[[], T]) -> T:
        start = time.perf_counter()
        answer = call()
        self.seconds[stage].append(time.perf_counter() - start)
        return answer


def measure_search(
    here: InProcess, client: DiscoveryClient, photos: Iterator[bytes], calls: int, *, detect: bool
) -> report.Row:
    """One row: p50, p95, p99 of both, and how many times longer end to end takes."""
    params = SearchParams(top_k=TOP_K)

    def end_to_end() -> list[str]:
        found = client.search_by_image(next(photos), params=params, detect_regions=detect)
        return [hit.item_id for hit in found.hits]

    def stages() -> list[str]:
        return here.search(next(photos), detect=detect)

    if end_to_end() != stages():
        raise AssertionError("the server and the engines in process find different items")
    for seconds in here.seconds.values():
        seconds.clear()
    samples = report.interleave({"end_to_end": end_to_end, "stages": stages}, calls)
    ratios = [served / summed for served, summed in zip(samples["end_to_end"], samples["stages"], strict=True)]
    return {
        "name": "SearchByImage with regions" if detect else "SearchByImage",
        "ours_ms": percentile_ms(samples["end_to_end"], 50),
        "peer": "sum of stages in process",
        "peer_ms": percentile_ms(samples["stages"], 50),
        "times_longer": round(statistics.median(samples["end_to_end"]) / statistics.median(samples["stages"]), 3),
        "times_longer_pairwise_median": round(statistics.median(ratios), 3),
        "target": 1.15 if detect else None,
        "items": ITEMS,
        "stages_p50_ms": {stage: percentile_ms(seconds, 50) for stage, seconds in here.seconds.items() if seconds},
        "ours_percentiles_ms": {f"p{q}": percentile_ms(samples["end_to_end"], q) for q in (50, 95, 99)},
        "peer_percentiles_ms": {f"p{q}": percentile_ms(samples["stages"], q) for q in (50, 95, 99)},
    }


def percentile_ms(seconds: list[float], q: float) -> float:
    """The q-th percentile in milliseconds."""
    return round(float(np.percentile(seconds, q)) * 1e3, 3)


def measure_cold_start(data_dir: Path, starts: int) -> report.Row:
    """Seconds from exec to ready, all services with ITEMS items."""
    seconds = []
    for _ in range(starts):
        with served(data_dir) as (_, ready_s):
            seconds.append(ready_s)
    return {
        "name": "cold start of all services",
        "ours_ms": percentile_ms(seconds, 50),
        "target_ms": 5000,
        "items": ITEMS,
        "ours_spread_ms": {"min": percentile_ms(seconds, 0), "max": percentile_ms(seconds, 100)},
    }


def main() -> None:
    arguments = report.make_parser(__doc__).parse_args()
    calls, starts = (QUICK_CALLS, QUICK_STARTS) if arguments.quick else (CALLS, STARTS)
    cache = PictureCache(256 << 20)
    detector, embedder = DetectorEngine(DetectorConfig(), cache), EmbedderEngine(EmbedderConfig(), cache)
    cache.least_side = max(detector.info.input_width, detector.info.input_height, embedder.info.input_width)
    detector.warm_up()
    embedder.warm_up()
    with tempfile.TemporaryDirectory() as folder:
        served_dir, own_dir = Path(folder) / "served", Path(folder) / "own"
        fill(own_dir, embedder)
        shutil.copytree(own_dir, served_dir)
        rows = [measure_cold_start(served_dir, starts)]
        here = InProcess(cache, detector, embedder, own_dir)
        with served(served_dir) as (connection, _):
            client, photos = DiscoveryClient(connection), fresh_photos()
            rows += [measure_search(here, client, photos, calls, detect=detect) for detect in (False, True)]
        here.retrieval.close()
    detector.close()
    embedder.close()
    report.publish("search_by_image", rows, as_json=arguments.json)


if __name__ == "__main__":
    main()
