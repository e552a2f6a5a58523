"""`bowerbird index` of 10,000 JPEG pictures, beside bare ONNX Runtime on as many decoded before.

All that a user pays for is on the clock: start of the command, reading, hashing, gRPC, decoding, the model, storing on
disk. The peer has the same number of threads and runs the model in the best way we know, a run of 4 on each thread. It
takes turns with two runs of the command, of a fifth and of four fifths of the pictures, whose peak memory shows whether
the client grows with the number of pictures.

Correctness: every picture is an item at the end, and the first one finds itself.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
from PIL import Image

from benchmarks import report
from bowerbird import images
from bowerbird.cli.processes import Home
from bowerbird.models import zoo
from bowerbird.models.preprocessing import make_batch
from bowerbird.models.threads import cpu_budget
from bowerbird.rpc.clients import DiscoveryClient, RetrievalClient, connect

PHOTOGRAPHS = report.REPOSITORY / "tests/golden/pictures/photographs"
WIDTH, HEIGHT, QUALITY = 640, 427, 85
PICTURES, QUICK_PICTURES = 10_000, 600
FIRST_SHARE = 0.2
BARE_CHUNK = 4
MIN_COSINE = 0.98  # of a picture with itself: a query is decoded at a larger scale, for the detector
MODEL = "efficientnet-lite0"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Spent:
    """Seconds on the wall, processor seconds, and peak memory of the command."""

    wall: float
    processor: float
    peak_mib: float = 0.0


class Floor:
    """The bare model on pictures that are decoded already."""

    def __init__(self, model: zoo.ZooModel, files: list[bytes], threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
        self._batch = make_batch([images.decode(data).pixels for data in files], model.input)[:BARE_CHUNK]
        self._threads = threads

    def run(self, pictures: int) -> Spent:
        """Time to run the model on this many."""
        wall, processor = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(self._run_one, range(-(-pictures // BARE_CHUNK))))
        return Spent(time.perf_counter() - wall, time.process_time() - processor)

    def _run_one(self, _: int) -> None:
        self._session.run(["embedding", "code_projection"], {"pictures": self._batch})


def make_files() -> list[bytes]:
    """JPEG files of 640 x 427, each photograph straight and mirrored."""
    files = []
    for path in sorted(PHOTOGRAPHS.glob("*.jpg")):
        picture = Image.open(path).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        for variant in (picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)):
            out = io.BytesIO()
            variant.save(out, "JPEG", quality=QUALITY)
            files.append(out.getvalue())
    return files


def write_pictures(folder: Path, files: list[bytes], count: int) -> None:
    """Write this many files, each with a comment of its own, so that no two have the same content."""
    folder.mkdir()
    for number in range(count):
        comment = f"{folder.name} {number:08}".encode()
        data = files[number % len(files)]
        segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment
        (folder / f"{number:06}.jpg").write_bytes(data[:2] + segment + data[2:])


def run_bowerbird(home: Path, *words: str) -> tuple[str, Spent]:
    """Standard output of a command, and what it spent."""
    environment = os.environ | {"BOWERBIRD_HOME": str(home)}
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen([sys.executable, "-m", "bowerbird.cli", *words], env=environment, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    assert process.returncode == 0, f"bowerbird {' '.join(words)} ended with {process.returncode}: {text}"
    return text, Spent(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def processor_seconds(pid: int) -> float:
    """User and system time of a living process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def run_index(home: Path, server_pid: int, folder: Path, count: int) -> Spent:
    """Time of one `bowerbird index`; the processor time is that of command and server together."""
    before = processor_seconds(server_pid)
    answer, spent = run_bowerbird(home, "index", str(folder), "--prefix", f"{folder.name}/", "--json")
    report_of_run = json.loads(answer)
    assert report_of_run["written"] == count, report_of_run
    return Spent(spent.wall, spent.processor + processor_seconds(server_pid) - before, spent.peak_mib)


def check(target: str, folder: Path, count: int) -> None:
    """Every picture is an item, and one finds itself."""
    with connect(target) as connection:
        items = RetrievalClient(connection).get_index().items
        assert items == count, f"{items} items instead of {count}"
        found = DiscoveryClient(connection).search_by_image((folder / "000000.jpg").read_bytes())
        assert found.hits[0].score >= MIN_COSINE, found.hits[0]


def make_row(indexed: list[Spent], bare: list[Spent], pictures: int, extra: report.Row) -> report.Row:
    """Rates and ratios of the whole, bare time / our time."""
    ours, floor = (Spent(sum(s.wall for s in spent), sum(s.processor for s in spent)) for spent in (indexed, bare))
    return {
        "name": "index",
        "peer": f"onnxruntime, a run of {BARE_CHUNK} on each thread, decoded before",
        "pictures": pictures,
        "pictures_per_s": round(pictures / ours.wall, 1),
        "peer_pictures_per_s": round(pictures / floor.wall, 1),
        "ratio": round(floor.wall / ours.wall, 3),
        "processor_ratio": round(floor.processor / ours.processor, 3),
        "ratio_of_each_run": [round(b.wall / a.wall, 3) for a, b in zip(indexed, bare, strict=True)],
        "client_peak_mib": [round(run.peak_mib, 1) for run in indexed],
        **extra,
    }


def main() -> None:
    options = report.parse_arguments(__doc__)
    pictures = QUICK_PICTURES if options.quick else PICTURES
    counts = [round(pictures * FIRST_SHARE), pictures - round(pictures * FIRST_SHARE)]
    threads, files = cpu_budget(), make_files()
    floor = Floor(zoo.load(MODEL), files, threads)
    work = Path(tempfile.mkdtemp(prefix="bowerbird-bench-"))
    home = work / "home"
    run_bowerbird(home, "up", "--port", "0", "--admin-port", "0")
    try:
        running = Home(home).running()
        assert running is not None
        floor.run(pictures // 20)
        indexed: list[Spent] = []
        bare: list[Spent] = []
        for number, count in enumerate(counts):
            folder = work / f"run{number}"
            write_pictures(folder, files, count)
            bare.append(floor.run(count // 2))
            indexed.append(run_index(home, running.pid, folder, count))
            after = floor.run(count - count // 2)
            bare[-1] = Spent(bare[-1].wall + after.wall, bare[-1].processor + after.processor)
        check(running.target, work / "run0", pictures)
    finally:
        run_bowerbird(home, "down")
        shutil.rmtree(work)
    extra = {
        "threads": threads,
        "jpeg_bytes": round(sum(map(len, files)) / len(files)),
        "pictures_of_each_run": counts,
    }
    report.publish("index", [make_row(indexed, bare, pictures, extra)], as_json=options.json)


if __name__ == "__main__":
    main()
