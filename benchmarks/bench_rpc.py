"""CPU time a call costs the server: bare grpcio, our runtime, and an asyncio server.

Each server is a process of its own that does nothing but answer, or wait a little and answer. They take turns under the
same load (blocking calls of a few threads), and each reports the CPU time (user + system) of its own process, so a busy
neighbour shows in the spread and not in the comparison. Servers stay on one core and the callers on another. The ratio
is taken round by round: our runtime / bare, asyncio / bare.
"""

from __future__ import annotations

import asyncio
import logging
import os
import statistics
import subprocess
import sys
import threading
import time
from concurrent import futures
from typing import Any

import grpc

from benchmarks import report
from bowerbird.rpc.server import Method, Server, ServerConfig, Service
from bowerbird.v1 import detector_pb2, detector_pb2_grpc, types_pb2

CALLER_THREADS = 4
SERVER_THREADS = 32
ROUNDS, QUICK_ROUNDS = 61, 5  # many short turns: neighbours come and go within a long one
CALLS, QUICK_CALLS = 400, 200
PICTURE_BYTES = 81 * 1024  # a 640x427 JPEG
WAIT, WAIT_S = "wait", 0.002  # for a batch to fill and to be computed elsewhere
TIMEOUT_S = 5.0
SERVERS = ("bare", "bowerbird", "asyncio")

REPLY = detector_pb2.DetectResponse(
    detections=[detector_pb2.Detection(region=types_pb2.Region(x_max=1, y_max=1), label="cat", score=0.5)]
)


class Servicer(detector_pb2_grpc.DetectorServiceServicer):
    def Detect(self, request: Any, _context: Any) -> Any:  # noqa: N802 (the contract's name)
        if request.model == WAIT:
            time.sleep(WAIT_S)
        return REPLY


class AsyncServicer(detector_pb2_grpc.DetectorServiceServicer):
    async def Detect(self, request: Any, _context: Any) -> Any:  # noqa: N802 (the contract's name)
        if request.model == WAIT:
            await asyncio.sleep(WAIT_S)
        return REPLY


# ------------------------------------------------------------------------------------------------ the server process


def serve_bare() -> Any:
    server = grpc.server(futures.ThreadPoolExecutor(SERVER_THREADS))
    detector_pb2_grpc.add_DetectorServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def serve_bowerbird() -> Any:
    rules = Method(default_deadline_s=1.0, max_deadline_s=10.0, role="read")
    service = Service(
        "bowerbird.v1.DetectorService",
        Servicer(),
        detector_pb2_grpc.add_DetectorServiceServicer_to_server,
        {"Detect": rules, "BatchDetect": rules, "GetModel": rules},
    )
    server = Server(ServerConfig(port=0, admin_port=0, max_workers=SERVER_THREADS), [service])
    server.start()
    return server, server.port


def serve_asyncio() -> Any:
    ready: futures.Future[int] = futures.Future()

    async def run() -> None:
        server = grpc.aio.server()
        detector_pb2_grpc.add_DetectorServiceServicer_to_server(AsyncServicer(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        ready.set_result(port)
        await server.wait_for_termination()

    threading.Thread(target=lambda: asyncio.run(run()), daemon=True).start()
    return ready, ready.result(timeout=30)


def pin(place: int) -> None:
    """Stay on one core: what moving between cores costs differs from turn to turn."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[place % len(cores)]})


def run_server(kind: str) -> None:
    """Serve until standard input ends; answer each line of it with the CPU nanoseconds spent so far."""
    logging.disable(logging.CRITICAL)
    pin(0)
    server, port = {"bare": serve_bare, "bowerbird": serve_bowerbird, "asyncio": serve_asyncio}[kind]()
    print(port, flush=True)
    for _ in sys.stdin:
        print(time.process_time_ns(), flush=True)
    del server


# ------------------------------------------------------------------------------------------------- the calling process


class Contender:
    """A server process and a channel to it."""

    def __init__(self, kind: str) -> None:
        command = [sys.executable, "-m", "benchmarks.bench_rpc", "--serve", kind]
        self.process = subprocess.Popen(
            command, cwd=report.REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self._read()}")
        self.stub = detector_pb2_grpc.DetectorServiceStub(self.channel)

    def _read(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def cpu_ns(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._read()

    def load(self, request: Any, calls: int) -> float:
        """CPU microseconds a call cost the server."""

        def work() -> None:
            for _ in range(calls // CALLER_THREADS):
                self.stub.Detect(request, timeout=TIMEOUT_S)

        before = self.cpu_ns()
        threads = [threading.Thread(target=work) for _ in range(CALLER_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (self.cpu_ns() - before) / 1e3 / (calls // CALLER_THREADS * CALLER_THREADS)

    def close(self) -> None:
        self.channel.close()
        self.process.communicate(timeout=10)


def measure(contenders: dict[str, Contender], message: str, request: Any, rounds: int, calls: int) -> list[report.Row]:
    for contender in contenders.values():
        answer = contender.stub.Detect(request, timeout=TIMEOUT_S)
        assert answer == REPLY, "a contender answers something else"
        contender.load(request, calls)
    samples: dict[str, list[float]] = {kind: [] for kind in contenders}
    for round_ in range(rounds):
        kinds = list(contenders) if round_ % 2 == 0 else list(reversed(contenders))
        for kind in kinds:
            samples[kind].append(contenders[kind].load(request, calls))
    return [
        compare("runtime overhead", message, samples, "bowerbird", "bare"),
        compare("asyncio against sync", message, samples, "asyncio", "bare"),
    ]


def compare(name: str, message: str, samples: dict[str, list[float]], ours: str, peer: str) -> report.Row:
    ratios = [mine / other for mine, other in zip(samples[ours], samples[peer], strict=True)]
    return {
        "name": name,
        "message": message,
        f"{ours}_us": round(statistics.median(samples[ours]), 1),
        f"{peer}_us": round(statistics.median(samples[peer]), 1),
        "ratio_of_best": round(min(samples[ours]) / min(samples[peer]), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_max": round(max(ratios), 3),
        "rounds": len(ratios),
    }


def main() -> None:
    arguments = report.make_parser(__doc__).parse_args()
    rounds, calls = (QUICK_ROUNDS, QUICK_CALLS) if arguments.quick else (ROUNDS, CALLS)
    picture = bytes(range(256)) * (PICTURE_BYTES // 256)
    contenders = {kind: Contender(kind) for kind in SERVERS}
    pin(1)
    try:
        rows = measure(contenders, "small", detector_pb2.DetectRequest(model="nanodet-m"), rounds, calls)
        rows += measure(contenders, "small, 2 ms wait", detector_pb2.DetectRequest(model=WAIT), rounds, calls // 2)
        large = detector_pb2.DetectRequest(image=types_pb2.Image(data=picture))
        rows += measure(contenders, "81 KiB", large, rounds, calls // 2)
    finally:
        for contender in contenders.values():
            contender.close()
    report.publish("rpc", rows, as_json=arguments.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        run_server(sys.argv[2])
    else:
        main()
