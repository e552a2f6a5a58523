"""BatchEmbed through gRPC with JPEG in, beside bare ONNX Runtime on the same pictures decoded before the clock starts.

Both have the same number of threads. The peer is one session with all threads, runs of 32 (the usual way), and, harder
to reach, the best way we know to run the model alone: a run of 4 on each thread. Requests are sent by two callers, as
`bowerbird index` does, so that the server has the next while one travels; the peers have nothing to wait for.

Correctness first: the vectors that come back equal those of the peer on the same pixels, but for what scaled decoding
changes.
"""

from __future__ import annotations

import io
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import onnxruntime
from PIL import Image

from benchmarks import report
from bowerbird import images
from bowerbird.images import PictureCache
from bowerbird.models import zoo
from bowerbird.models.preprocessing import make_batch
from bowerbird.models.threads import cpu_budget
from bowerbird.rpc.clients import EmbedderClient, connect
from bowerbird.testing import run_server
from services.embedder.config import EmbedderConfig
from services.embedder.engine import EmbedderEngine
from services.embedder.server import build_services

PHOTOGRAPHS = report.REPOSITORY / "tests/golden/pictures/photographs"
WIDTH, HEIGHT, QUALITY = 640, 427, 85
BATCH, CALLERS = 32, 2
REQUESTS, QUICK_REQUESTS = 6, 2  # in one sample
ROUNDS, QUICK_ROUNDS = 9, 2
MIN_COSINE = 0.96  # scaled decoding: 0.969 was the smallest of 150 photographs

FloatArray = Any


def read_photographs(folder: Path, count: int) -> list[bytes]:
    """JPEG files of 640 x 427: the photographs of a folder, the second time around mirrored, and so on."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    return [_make_jpeg(files[i % len(files)], i // len(files)) for i in range(count)]


def _make_jpeg(file: Path, variant: int) -> bytes:
    picture = Image.open(file).convert("RGB")
    picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if variant % 2 else picture
    out = io.BytesIO()
    picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def start_session(model: zoo.ZooModel, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])


def run_whole(session: onnxruntime.InferenceSession, batch: FloatArray, requests: int) -> None:
    for _ in range(requests):
        session.run(["embedding", "code_projection"], {"pictures": batch})


def run_chunks(
    session: onnxruntime.InferenceSession, pool: ThreadPoolExecutor, batch: FloatArray, requests: int, size: int
) -> None:
    chunks = [batch[i : i + size] for _ in range(requests) for i in range(0, len(batch), size)]
    list(pool.map(lambda chunk: session.run(["embedding", "code_projection"], {"pictures": chunk}), chunks))


def send(client: EmbedderClient, pictures: list[bytes], requests: int) -> None:
    def call(count: int) -> None:
        for _ in range(count):
            answer = client.batch_embed(pictures, half=True, timeout_s=60)
            assert not answer.errors

    callers = [threading.Thread(target=call, args=(requests // CALLERS,)) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()


def check(
    client: EmbedderClient, session: onnxruntime.InferenceSession, pictures: list[bytes], batch: FloatArray
) -> float:
    """Smallest cosine between our vectors and the peer's."""
    ours = client.batch_embed(pictures, timeout_s=60)
    [theirs] = session.run(["embedding"], {"pictures": batch})
    cosine = float((ours.embeddings * theirs).sum(axis=1).min())
    assert not ours.errors and cosine >= MIN_COSINE, f"cosine {cosine}"
    return cosine


def measure(contenders: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """(seconds, processor seconds of this process) of each sample, the contenders taking turns."""
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for round_ in range(-1, rounds):
        for name in list(contenders)[:: 1 if round_ % 2 else -1]:
            wall, processor = time.perf_counter(), time.process_time()
            contenders[name]()
            if round_ >= 0:
                samples[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return samples


def make_row(name: str, samples: dict[str, list[tuple[float, float]]], pictures: int, extra: report.Row) -> report.Row:
    """Rates and the ratio ours / peer, taken round by round."""
    ours, peer = samples["bowerbird"], samples[name]
    rates = [pictures / wall for wall, _ in ours]
    peer_rates = [pictures / wall for wall, _ in peer]
    ratios = [b / a for (a, _), (b, _) in zip(ours, peer, strict=True)]
    processor_ratios = [b / a for (_, a), (_, b) in zip(ours, peer, strict=True)]
    return {
        "name": "batch_embed",
        "peer": name,
        "pictures_per_s": round(statistics.median(rates), 1),
        "peer_pictures_per_s": round(statistics.median(peer_rates), 1),
        "ratio": round(statistics.median(ratios), 3),
        "processor_ratio": round(statistics.median(processor_ratios), 3),
        "ratio_spread": _spread(ratios),
        "pictures_per_s_spread": _spread(rates),
        "peer_pictures_per_s_spread": _spread(peer_rates),
        **extra,
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"min": round(min(values), 3), "median": round(statistics.median(values), 3), "max": round(max(values), 3)}


def main() -> None:
    options = report.make_parser(__doc__).parse_args()
    requests, rounds = (QUICK_REQUESTS, QUICK_ROUNDS) if options.quick else (REQUESTS, ROUNDS)
    config, threads = EmbedderConfig(), cpu_budget()
    engine = EmbedderEngine(config, PictureCache(0))
    model = zoo.load(config.model)
    pictures = read_photographs(PHOTOGRAPHS, BATCH)
    batch = make_batch([images.decode(data).pixels for data in pictures], model.input)
    whole, single = start_session(model, threads), start_session(model, 1)
    with (
        run_server(build_services(engine)) as (target, _),
        connect(target) as connection,
        ThreadPoolExecutor(threads) as pool,
    ):
        client = EmbedderClient(connection)
        facts = {
            "batch": BATCH,
            "threads": threads,
            "input": model.input.width,
            "jpeg_bytes": round(statistics.mean(map(len, pictures))),
            "min_cosine": round(check(client, whole, pictures, batch), 5),
        }
        contenders = {
            "bowerbird": lambda: send(client, pictures, requests),
            "onnxruntime, all threads a run of 32": lambda: run_whole(whole, batch, requests),
            "onnxruntime, a run of 4 on each thread": lambda: run_chunks(single, pool, batch, requests, 4),
        }
        samples = measure(contenders, rounds)
    rows = [make_row(name, samples, BATCH * requests, facts) for name in contenders if name != "bowerbird"]
    report.publish("embed", rows, as_json=options.json)


if __name__ == "__main__":
    main()
