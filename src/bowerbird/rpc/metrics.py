"""Request metrics of every method, at the price of a few list operations a call.

A `prometheus_client` child costs one to two microseconds an update in the middle of a call, and a call has eight. Here
a call appends records, which are added up hundreds at a time; the exposition is made when it is scraped. Names of the
`grpc_server_*` family follow go-grpc-prometheus, so that public dashboards work.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import grpc
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from bowerbird.telemetry import MESSAGE_BYTES, REGISTRY, REQUEST_SECONDS

CODE_NAMES = {code: "".join(part.title() for part in code.name.split("_")) for code in grpc.StatusCode} | {
    grpc.StatusCode.OK: "OK"
}
RECORDS_KEPT = 512  # before they are added up
T = TypeVar("T")

_METHOD = ("grpc_service", "grpc_method")
_TYPED = ("grpc_type", "grpc_service", "grpc_method")


def _format_edge(edge: float) -> str:
    return "+Inf" if edge == float("inf") else str(float(edge))


class Distribution:
    """Counts by bucket and a sum; guarded by the lock of its owner."""

    __slots__ = ("counts", "edges", "sum")

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges = list(edges)
        self.counts = [0] * (len(self.edges) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value; an edge belongs to the bucket below it."""
        self.counts[bisect_left(self.edges, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """(upper edge, cumulated count), ending with +Inf."""
        cumulated, rows = 0, []
        for edge, count in zip([*self.edges, float("inf")], self.counts, strict=True):
            cumulated += count
            rows.append((_format_edge(edge), float(cumulated)))
        return rows


class MethodMetrics:
    """What is counted of one method.

    A call leaves records; they are added up when many have come or somebody looks. Appending to a deque and adding to
    a set are atomic, so calls need no lock.

    Attributes:
        kind: unary, client_stream, server_stream or bidi_stream.
        calls: being answered now.
        finished: calls that ended with (code, seconds, seconds left when it came or None, reason of failure or "").
        received_bytes, sent_bytes: sizes of messages.
    """

    def __init__(self, service: str, method: str, kind: str) -> None:
        self.service, self.method, self.kind = service, method, kind
        self.calls: set[object] = set()
        self.finished: deque[tuple[grpc.StatusCode, float, float | None, str]] = deque()
        self.received_bytes: deque[int] = deque()
        self.sent_bytes: deque[int] = deque()
        self.lock = threading.Lock()
        self.handled: dict[grpc.StatusCode, int] = {}
        self.reasons: dict[str, int] = {}
        self.without_deadline = 0
        self.seconds = Distribution(REQUEST_SECONDS)
        self.remaining = Distribution(REQUEST_SECONDS)
        self.request_bytes = Distribution(MESSAGE_BYTES)
        self.response_bytes = Distribution(MESSAGE_BYTES)

    def finish(
        self, call: object, code: grpc.StatusCode, seconds: float, remaining_s: float | None, reason: str
    ) -> None:
        """A call ended."""
        self.calls.discard(call)
        self.finished.append((code, seconds, remaining_s, reason))
        if len(self.finished) >= RECORDS_KEPT:
            self.add_up()

    def add_up(self) -> None:
        """Bring the records into the sums."""
        with self.lock:
            for code, seconds, remaining_s, reason in _drain(self.finished):
                self.handled[code] = self.handled.get(code, 0) + 1
                self.seconds.observe(seconds)
                if remaining_s is None:
                    self.without_deadline += 1
                else:
                    self.remaining.observe(remaining_s)
                if reason:
                    self.reasons[reason] = self.reasons.get(reason, 0) + 1
            for size in _drain(self.received_bytes):
                self.request_bytes.observe(size)
            for size in _drain(self.sent_bytes):
                self.response_bytes.observe(size)


def _drain(records: deque[T]) -> Iterator[T]:
    """Take what is there now; what comes meanwhile stays for the next time."""
    for _ in range(len(records)):
        yield records.popleft()


class RpcCollector(Collector):
    """All methods of this process, as Prometheus families."""

    def __init__(self) -> None:
        self._methods: dict[tuple[str, str], MethodMetrics] = {}

    def method(self, service: str, method: str, kind: str) -> MethodMetrics:
        """The metrics of a method; the same object for the same names."""
        return self._methods.setdefault((service, method), MethodMetrics(service, method, kind))

    def collect(self) -> Iterable[Metric]:
        """The families, at this moment."""
        methods = list(self._methods.values())
        for method in methods:
            method.add_up()
        return [*_collect_counters(methods), *_collect_distributions(methods)]


def _collect_counters(methods: list[MethodMetrics]) -> list[Metric]:
    started = CounterMetricFamily("grpc_server_started", "Calls begun", labels=_TYPED)
    handled = CounterMetricFamily("grpc_server_handled", "Calls ended", labels=(*_TYPED, "grpc_code"))
    received = CounterMetricFamily("grpc_server_msg_received", "Request messages", labels=_TYPED)
    sent = CounterMetricFamily("grpc_server_msg_sent", "Response messages", labels=_TYPED)
    in_flight = GaugeMetricFamily("bowerbird_rpc_in_flight", "Calls being answered", labels=_METHOD)
    failed = CounterMetricFamily("bowerbird_rpc_errors", "Calls failed, by reason", labels=("grpc_service", "reason"))
    careless = CounterMetricFamily("bowerbird_rpc_no_deadline", "Calls whose caller set no deadline", labels=_METHOD)
    reasons: dict[tuple[str, str], int] = {}
    for m in methods:
        typed, plain = (m.kind, m.service, m.method), (m.service, m.method)
        under_way = len(m.calls)
        started.add_metric(typed, sum(m.handled.values()) + under_way)
        received.add_metric(typed, sum(m.request_bytes.counts))
        sent.add_metric(typed, sum(m.response_bytes.counts))
        in_flight.add_metric(plain, under_way)
        careless.add_metric(plain, m.without_deadline)
        for code, count in list(m.handled.items()):
            handled.add_metric((*typed, CODE_NAMES[code]), count)
        for reason, count in list(m.reasons.items()):
            reasons[m.service, reason] = reasons.get((m.service, reason), 0) + count
    for labels, count in reasons.items():
        failed.add_metric(labels, count)
    return [started, handled, received, sent, in_flight, failed, careless]


def _collect_distributions(methods: list[MethodMetrics]) -> list[Metric]:
    seconds = HistogramMetricFamily("grpc_server_handling_seconds", "Time of a call", labels=_TYPED)
    remaining = HistogramMetricFamily(
        "bowerbird_rpc_deadline_remaining_seconds", "Time left when a call came", labels=_METHOD
    )
    requests = HistogramMetricFamily("bowerbird_rpc_request_bytes", "Size of request messages", labels=_METHOD)
    responses = HistogramMetricFamily("bowerbird_rpc_response_bytes", "Size of response messages", labels=_METHOD)
    for m in methods:
        plain = (m.service, m.method)
        seconds.add_metric((m.kind, *plain), m.seconds.buckets(), m.seconds.sum)
        remaining.add_metric(plain, m.remaining.buckets(), m.remaining.sum)
        requests.add_metric(plain, m.request_bytes.buckets(), m.request_bytes.sum)
        responses.add_metric(plain, m.response_bytes.buckets(), m.response_bytes.sum)
    return [seconds, remaining, requests, responses]


RPC_METRICS = RpcCollector()
REGISTRY.register(RPC_METRICS)
