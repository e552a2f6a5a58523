"""Request metrics add up, under load and while they are scraped."""

import threading

import grpc
from prometheus_client.core import Metric

from bowerbird.rpc.metrics import CODE_NAMES, RECORDS_KEPT, Distribution, MethodMetrics, RpcCollector

OK = grpc.StatusCode.OK


def samples(families: list[Metric], name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def test_an_edge_belongs_to_the_bucket_below_it() -> None:
    """Prometheus buckets are `le`: a value at the edge counts in it."""
    distribution = Distribution([1.0, 2.0])
    for value in (0.5, 1.0, 1.5, 2.0, 3.0):
        distribution.observe(value)
    assert distribution.buckets() == [("1.0", 2.0), ("2.0", 4.0), ("+Inf", 5.0)]
    assert distribution.sum == 8.0


def test_the_exposition_has_every_family() -> None:
    """One answered and one failed call show in all families that the dashboards use."""
    collector = RpcCollector()
    method = collector.method("s", "m", "unary")
    answered, failed, running = object(), object(), object()
    method.calls |= {answered, failed, running}
    method.received_bytes.extend([100, 5000])
    method.sent_bytes.append(7)
    method.finish(answered, OK, 0.02, 1.0, "")
    method.finish(failed, grpc.StatusCode.NOT_FOUND, 0.5, None, "ITEM_NOT_FOUND")
    families = list(collector.collect())
    assert samples(families, "grpc_server_started_total") == {("m", "s", "unary"): 3}
    assert samples(families, "grpc_server_handled_total") == {
        ("OK", "m", "s", "unary"): 1,
        ("NotFound", "m", "s", "unary"): 1,
    }
    assert samples(families, "grpc_server_handling_seconds_count") == {("m", "s", "unary"): 2}
    assert samples(families, "grpc_server_handling_seconds_sum") == {("m", "s", "unary"): 0.52}
    assert samples(families, "grpc_server_msg_received_total") == {("m", "s", "unary"): 2}
    assert samples(families, "grpc_server_msg_sent_total") == {("m", "s", "unary"): 1}
    assert samples(families, "bowerbird_rpc_in_flight") == {("m", "s"): 1}
    assert samples(families, "bowerbird_rpc_errors_total") == {("s", "ITEM_NOT_FOUND"): 1}
    assert samples(families, "bowerbird_rpc_no_deadline_total") == {("m", "s"): 1}
    assert samples(families, "bowerbird_rpc_deadline_remaining_seconds_count") == {("m", "s"): 1}
    assert samples(families, "bowerbird_rpc_request_bytes_sum") == {("m", "s"): 5100}
    assert samples(families, "bowerbird_rpc_response_bytes_count") == {("m", "s"): 1}


def test_nothing_is_lost_between_threads() -> None:
    """Calls that end while others are added up or scraped are counted exactly once."""
    method = MethodMetrics("s", "m", "unary")
    calls, threads = 3 * RECORDS_KEPT, 4

    def work() -> None:
        for _ in range(calls):
            call = object()
            method.calls.add(call)
            method.finish(call, OK, 0.001, 1.0, "")

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        method.add_up()
    method.add_up()
    assert method.handled == {OK: calls * threads}
    assert sum(method.seconds.counts) == calls * threads
    assert not method.calls


def test_records_do_not_pile_up_without_a_scraper() -> None:
    """A server that nobody scrapes keeps a bounded number of records."""
    method = MethodMetrics("s", "m", "unary")
    for _ in range(5 * RECORDS_KEPT):
        method.received_bytes.append(1)
        method.sent_bytes.append(1)
        method.finish(object(), OK, 0.001, None, "")
        assert len(method.finished) < RECORDS_KEPT
        assert len(method.received_bytes) <= RECORDS_KEPT


def test_the_same_names_give_the_same_metrics() -> None:
    """Two servers of one process count into one series, not into two with the same labels."""
    collector = RpcCollector()
    assert collector.method("s", "m", "unary") is collector.method("s", "m", "unary")


def test_codes_are_spelt_as_dashboards_know_them() -> None:
    """go-grpc-prometheus spells codes in camel case."""
    assert (CODE_NAMES[OK], CODE_NAMES[grpc.StatusCode.DEADLINE_EXCEEDED]) == ("OK", "DeadlineExceeded")
