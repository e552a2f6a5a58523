"""`bowerbird index` of 10,000 JPEG pictures, beside bare ONNX Runtime on as many decoded before.

All that a user pays for is on the clock: start of the command, reading, hashing, gRPC, decoding, the model, storing on
disk. The peers have the same number of threads: one session with all threads, runs of 32 (the usual way), and, harder
to reach, the best way we know to run the model alone, a run of 4 on each thread. They take turns with two runs of the
command, of a fifth and of four fifths of the pictures, whose peak memory shows whether the client grows with the number
of pictures. On a machine that is busy with other work, the ratio of processor times is the one to look at.

Correctness: every picture is an item at the end, and the first one finds itself.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
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
BARE_PICTURES = 96  # different ones, so that the peer does not work in the cache alone
MIN_COSINE = 0.98  # of a picture with itself: a query is decoded at a larger scale, for the detector
MODEL = "efficientnet-lite0"
SAMPLE_S = 0.05
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Spent:
    """Seconds on the wall, processor seconds, and peak memory of the command."""

    wall: float
    processor: float
    peak_mib: float = 0.0


class Floor:
    """The bare model on pictures that are decoded already: one session, `chunk` pictures a run.

    Either all threads work on one run, or each thread on a run of its own.
    """

    def __init__(self, model: zoo.ZooModel, files: list[bytes], *, threads: int, chunk: int, at_once: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads // at_once
        self._session = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
        pixels = [images.decode(data).pixels for data in files] * (-(-BARE_PICTURES // len(files)))
        batch = make_batch(pixels, model.input)
        self._batches = [batch[start : start + chunk] for start in range(0, len(batch) - chunk + 1, chunk)]
        self._chunk, self._at_once = chunk, at_once

    def run(self, pictures: int) -> Spent:
        """Time to run the model on this many."""
        wall, processor = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(self._at_once) as pool:
            list(pool.map(self._run_one, range(-(-pictures // self._chunk))))
        return Spent(time.perf_counter() - wall, time.process_time() - processor)

    def _run_one(self, number: int) -> None:
        batch = self._batches[number % len(self._batches)]
        self._session.run(["embedding", "code_projection"], {"pictures": batch})


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
        peaks = [0.0]
        watch = threading.Thread(target=_watch_memory, args=(process.pid, peaks))
        watch.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        watch.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    assert process.returncode == 0, f"bowerbird {' '.join(words)} ended with {process.returncode}: {text}"
    return text, Spent(wall, usage.ru_utime + usage.ru_stime, max(peaks))


def _watch_memory(pid: int, peaks: list[float]) -> None:
    """Note the peak of resident memory, in MiB, until the process ends; its own count also has that of its parent."""
    while True:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        if found is None:  # ended, and not yet waited for
            return
        peaks.append(int(found[1]) / 1024)
        time.sleep(SAMPLE_S)


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


def make_row(peer: str, indexed: list[Spent], bare: list[Spent], pictures: int, extra: report.Row) -> report.Row:
    """Rates of the whole, and ratios bare time / our time, on the clock and of the processor."""
    ours, floor = (add(spent) for spent in (indexed, bare))
    return {
        "name": "index",
        "peer": peer,
        "pictures": pictures,
        "pictures_per_s": round(pictures / ours.wall, 1),
        "peer_pictures_per_s": round(pictures / floor.wall, 1),
        "ratio": round(floor.wall / ours.wall, 3),
        "processor_ratio": round(floor.processor / ours.processor, 3),
        "ratio_of_each_run": [round(b.wall / a.wall, 3) for a, b in zip(indexed, bare, strict=True)],
        "client_peak_mib": [round(run.peak_mib, 1) for run in indexed],
        **extra,
    }


def add(spent: list[Spent]) -> Spent:
    """All of them together."""
    return Spent(sum(each.wall for each in spent), sum(each.processor for each in spent))


def parse_arguments() -> argparse.Namespace:
    parser = report.make_parser(__doc__)
    parser.add_argument("--items", type=int, metavar="N", help=f"pictures ({PICTURES}, quick {QUICK_PICTURES})")
    return parser.parse_args()


def measure(
    home: Path, pid: int, floors: dict[str, Floor], files: list[bytes], counts: list[int]
) -> dict[str, list[Spent]]:
    """What each run of the command, and the peers around it, spent; each peer works half before and half after."""
    spent: dict[str, list[Spent]] = {name: [] for name in ("bowerbird", *floors)}
    for number, count in enumerate(counts):
        folder = home.parent / f"run{number}"
        write_pictures(folder, files, count)
        before = {name: floor.run(count // 2) for name, floor in floors.items()}
        spent["bowerbird"].append(run_index(home, pid, folder, count))
        for name, floor in floors.items():
            spent[name].append(add([before[name], floor.run(count - count // 2)]))
    return spent


def main() -> None:
    options = parse_arguments()
    pictures = options.items or (QUICK_PICTURES if options.quick else PICTURES)
    counts = [round(pictures * FIRST_SHARE), pictures - round(pictures * FIRST_SHARE)]
    threads, files, model = cpu_budget(), make_files(), zoo.load(MODEL)
    floors = {
        "onnxruntime, all threads a run of 32": Floor(model, files, threads=threads, chunk=32, at_once=1),
        "onnxruntime, a run of 4 on each thread": Floor(model, files, threads=threads, chunk=4, at_once=threads),
    }
    work = Path(tempfile.mkdtemp(prefix="bowerbird-bench-"))
    home = work / "home"
    run_bowerbird(home, "up", "--port", "0", "--admin-port", "0")
    try:
        running = Home(home).running()
        assert running is not None
        for floor in floors.values():
            floor.run(2 * BARE_PICTURES)
        spent = measure(home, running.pid, floors, files, counts)
        check(running.target, work / "run0", pictures)
    finally:
        run_bowerbird(home, "down")
        shutil.rmtree(work)
    extra = {
        "threads": threads,
        "jpeg_bytes": round(sum(map(len, files)) / len(files)),
        "pictures_of_each_run": counts,
    }
    rows = [make_row(name, spent["bowerbird"], spent[name], pictures, extra) for name in floors]
    report.publish("index", rows, as_json=options.json)


if __name__ == "__main__":
    main()
