"""Logs, metrics and stage timings of one process.

    request id   a context variable: every log line and every outbound call of a request carries it
    logs         standard `logging`, one JSON object (or one line of text) a record, on standard error
    metrics      Prometheus objects of the registry `REGISTRY`; the admin port serves them
    timings      `time_stage` feeds a histogram and the list that a reply shows its caller

The metrics of the RPC layer itself (`grpc_server_*`, `bowerbird_rpc_*`) are in `bowerbird.rpc.metrics`.
"""

from __future__ import annotations

import contextvars
import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from bowerbird.errors import ConfigInvalid

# --------------------------------------------------------------------------------------------------- request scope


class RequestScope:
    """What belongs to the call being answered: its id and the (stage, seconds) it has spent so far."""

    __slots__ = ("request_id", "timings")

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.timings: list[tuple[str, float]] = []


SCOPE: Final[contextvars.ContextVar[RequestScope | None]] = contextvars.ContextVar("bowerbird_scope", default=None)


def request_id() -> str:
    """The id of the call being answered; empty outside a call."""
    scope = SCOPE.get()
    return scope.request_id if scope is not None else ""


# ------------------------------------------------------------------------------------------------------------ logs

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("json", "text")
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "request_id"}


class _RequestIdFilter(logging.Filter):
    """Puts the request id of the current call on every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "request_id"):
            record.request_id = request_id()
        return True


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller passed as `extra=`."""
    return {key: value for key, value in record.__dict__.items() if key not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """One JSON object a record: time (UTC), level, logger, message, request_id, the extras, stack."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of this record, without a newline at its end."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if identity := getattr(record, "request_id", ""):
            entry["request_id"] = identity
        entry |= _extras(record)
        if record.exc_info:
            entry["stack"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


_CONTROLS: Final = {code: repr(chr(code))[1:-1] for code in (*range(32), 127, *range(0x80, 0xA0), 0x2028, 0x2029)}


class TextFormatter(logging.Formatter):
    """One line for people: time, level, logger, message, key=value pairs; a stack follows on its own lines.

    Control characters are written as escapes: what a caller sent cannot look like another record, nor drive a terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line of this record, without a newline at its end."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        pairs = dict(_extras(record))
        if identity := getattr(record, "request_id", ""):
            pairs["request_id"] = identity
        tail = "".join(f" {key}={value}" for key, value in pairs.items())
        line = f"{clock} {record.levelname.lower():7} {record.name}: {record.getMessage()}{tail}".translate(_CONTROLS)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure_logging(level: str = "info", format: str = "json") -> None:  # noqa: A002 (the word of the setting)
    """Send all records from `level` upwards to standard error, replacing what was configured before.

    Raises:
        ConfigInvalid: an unknown level or format.
    """
    if level not in LEVELS:
        raise ConfigInvalid(f"log_level: expected one of {', '.join(LEVELS)}, got {level!r}")
    if format not in FORMATS:
        raise ConfigInvalid(f"log_format: expected one of {', '.join(FORMATS)}, got {format!r}")
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_RequestIdFilter())
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def get_logger(name: str) -> logging.Logger:
    """A logger; pass facts as `extra={...}`, never formatted into the message."""
    return logging.getLogger(name)


# --------------------------------------------------------------------------------------------------------- metrics

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

# Bucket edges. Every threshold of a service level objective is one of them.
REQUEST_SECONDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
STAGE_SECONDS_EDGES: Final = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
)  # fmt: skip
LONG_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
BATCH_ITEMS: Final = (1, 2, 4, 8, 16, 32, 64, 128)
MESSAGE_BYTES: Final = (2**10, 2**12, 2**14, 2**16, 2**18, 2**20, 2**22, 2**24)
PICTURE_PIXELS: Final = (1e4, 1e5, 5e5, 1e6, 5e6, 1e7, 5e7)


def _counter(name: str, help_: str, *labels: str) -> Counter:
    return Counter(f"bowerbird_{name}", help_, labels, registry=REGISTRY)


def _gauge(name: str, help_: str, *labels: str) -> Gauge:
    return Gauge(f"bowerbird_{name}", help_, labels, registry=REGISTRY)


def _histogram(name: str, help_: str, *labels: str, edges: tuple[float, ...]) -> Histogram:
    return Histogram(f"bowerbird_{name}", help_, labels, buckets=edges, registry=REGISTRY)


STAGE_SECONDS = _histogram(
    "stage_seconds", "Time of one stage of a call", "service", "stage", edges=STAGE_SECONDS_EDGES
)

BATCH_SIZE = _histogram("batch_size", "Items computed together", "service", "model", edges=BATCH_ITEMS)
BATCH_QUEUE_DEPTH = _gauge("batch_queue_depth", "Items waiting to be computed", "service", "model")
BATCH_QUEUE_LIMIT = _gauge("batch_queue_limit", "Items that may wait before work is shed", "service", "model")
BATCH_QUEUE_WAIT_SECONDS = _histogram(
    "batch_queue_wait_seconds", "Time an item waited for its batch", "service", "model", edges=STAGE_SECONDS_EDGES
)
SHED_TOTAL = _counter("shed_total", "Work refused because of overload or expiry", "service", "reason")
WASTED_COMPUTE_SECONDS_TOTAL = _counter(
    "wasted_compute_seconds_total", "Time spent on answers that nobody waited for any more", "service"
)

MODEL_INFO = _gauge("model_info", "1 for each model that is loaded", "service", "model", "version", "backend")
MODEL_LOAD_SECONDS = _gauge("model_load_seconds", "Time to load the model", "service", "model")
MODEL_WARMUP_SECONDS = _gauge("model_warmup_seconds", "Time of the first runs before ready", "service", "model")
INFERENCE_FAILURES_TOTAL = _counter("inference_failures_total", "Failed model runs", "service", "model", "kind")

IMAGE_DECODE_TOTAL = _counter("image_decode_total", "Pictures decoded or refused", "format", "outcome")
IMAGE_PIXELS = _histogram("image_pixels", "Pixels of the pictures that came", edges=PICTURE_PIXELS)

CLIENT_SECONDS = _histogram(
    "client_seconds", "Time of an outbound call", "service", "target", "grpc_code", edges=REQUEST_SECONDS
)

INDEX_ITEMS = _gauge("index_items", "Items of an index", "index")
INDEX_MEMORY_BYTES = _gauge("index_memory_bytes", "Memory an index holds", "index")
INDEX_SEQUENCE = _gauge("index_sequence", "Newest write visible to searches", "index")
INDEX_WRITES_TOTAL = _counter("index_writes_total", "Items written or deleted", "index", "op", "outcome")
STORE_COMMIT_SECONDS = _histogram(
    "store_commit_seconds", "Time to bring one write to disk", "index", edges=STAGE_SECONDS_EDGES
)
RECOVERY_SECONDS = _gauge("recovery_seconds", "Time to rebuild the index at the last start", "index")
SNAPSHOT_SECONDS = _histogram("snapshot_seconds", "Time to write a snapshot", "index", edges=LONG_SECONDS)
SNAPSHOT_LAST_SUCCESS_TIMESTAMP_SECONDS = _gauge(
    "snapshot_last_success_timestamp_seconds", "Unix time of the newest complete snapshot", "index"
)

READY = _gauge("ready", "1 while calls are welcome: warmed up and not draining")
ALIVE = _gauge("alive", "1 while the heartbeat of a service is young enough", "service")
BUILD_INFO = _gauge("build_info", "1, with the version that runs", "version")

# --------------------------------------------------------------------------------------------------------- timings

_stages: dict[tuple[str, str], Histogram] = {}  # `labels()` costs four times an `observe`


def record_stage(service: str, stage: str, seconds: float) -> None:
    """Count a measured stage, and add it to the timings of the current call if there is one."""
    child = _stages.get((service, stage))
    if child is None:
        child = _stages[service, stage] = STAGE_SECONDS.labels(service, stage)
    child.observe(seconds)
    scope = SCOPE.get()
    if scope is not None:
        scope.timings.append((stage, seconds))


@contextmanager
def time_stage(service: str, stage: str) -> Iterator[None]:
    """Measure the block as one stage, also when it raises."""
    start = time.perf_counter()
    try:
        yield
    finally:
        record_stage(service, stage, time.perf_counter() - start)


@contextmanager
def collect_timings() -> Iterator[list[tuple[str, float]]]:
    """The list that stages of this block are added to: the current call's, or a new one outside a call."""
    scope = SCOPE.get()
    if scope is not None:
        yield scope.timings
        return
    scope = RequestScope("")
    token = SCOPE.set(scope)
    try:
        yield scope.timings
    finally:
        SCOPE.reset(token)
