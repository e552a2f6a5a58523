"""Logs carry the request id, metrics have the agreed names, stages are timed."""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest

from bowerbird import telemetry
from bowerbird.errors import ConfigInvalid


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def scope() -> Iterator[telemetry.RequestScope]:
    made = telemetry.RequestScope("r-1")
    token = telemetry.SCOPE.set(made)
    yield made
    telemetry.SCOPE.reset(token)


def test_json_lines_hold_message_extras_request_id_and_stack(
    root_logger: logging.Logger, scope: telemetry.RequestScope, capsys: pytest.CaptureFixture[str]
) -> None:
    """One record is one JSON object, with the facts as fields and the stack of an exception."""
    telemetry.configure_logging("info", "json")
    try:
        raise ValueError("bad pixel")
    except ValueError:
        telemetry.get_logger("probe").exception("decoding failed", extra={"format": "jpeg", "bytes": 12})
    entry = json.loads(capsys.readouterr().err)
    assert entry["message"] == "decoding failed"
    assert (entry["level"], entry["logger"], entry["request_id"]) == ("error", "probe", "r-1")
    assert (entry["format"], entry["bytes"]) == ("jpeg", 12)
    assert "ValueError: bad pixel" in entry["stack"]
    assert entry["time"].endswith("Z")


def test_text_lines_are_for_people(
    root_logger: logging.Logger, scope: telemetry.RequestScope, capsys: pytest.CaptureFixture[str]
) -> None:
    """The text format has the message, then key=value pairs."""
    telemetry.configure_logging("info", "text")
    telemetry.get_logger("probe").info("ready", extra={"port": 1})
    assert capsys.readouterr().err.rstrip().endswith("info    probe: ready port=1 request_id=r-1")


def test_a_text_line_is_one_line_whatever_it_quotes(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Line ends and terminal sequences of a caller's text come out as escapes, in the message and in the pairs."""
    telemetry.configure_logging("info", "text")
    telemetry.get_logger("probe").info("no item a\n12:00:00 error forged: b", extra={"field": "\x1b[2Jc\u2028d\re"})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(r"no item a\n12:00:00 error forged: b field=\x1b[2Jc\u2028d\re")


def test_records_below_the_level_are_dropped(root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """At level warning, information is not written; outside a call there is no request id."""
    telemetry.configure_logging("warning", "json")
    telemetry.get_logger("probe").info("quiet")
    telemetry.get_logger("probe").warning("loud")
    entry = json.loads(capsys.readouterr().err)
    assert entry["message"] == "loud"
    assert "request_id" not in entry


@pytest.mark.parametrize(("level", "format_"), [("loud", "json"), ("info", "xml")])
def test_unknown_level_or_format_is_an_error(root_logger: logging.Logger, level: str, format_: str) -> None:
    """A misspelt log setting is refused and the old handlers stay."""
    before = root_logger.handlers[:]
    with pytest.raises(ConfigInvalid, match="expected one of"):
        telemetry.configure_logging(level, format_)
    assert root_logger.handlers == before


def count(stage: str) -> float:
    value = telemetry.REGISTRY.get_sample_value("bowerbird_stage_seconds_count", {"service": "probe", "stage": stage})
    return value or 0.0


def test_a_stage_is_counted_and_added_to_the_call(scope: telemetry.RequestScope) -> None:
    """A timed block goes into the histogram and into the timings of the current call."""
    before = count("decode")
    with telemetry.time_stage("probe", "decode"):
        pass
    telemetry.record_stage("probe", "infer", 0.25)
    assert count("decode") == before + 1
    assert [stage for stage, _ in scope.timings] == ["decode", "infer"]
    assert scope.timings[1] == ("infer", 0.25)


def test_a_stage_that_raises_is_timed_too() -> None:
    """The time of a failed stage counts, and the error goes on."""
    before = count("decode")
    with pytest.raises(ValueError, match="broken"), telemetry.time_stage("probe", "decode"):
        raise ValueError("broken")
    assert count("decode") == before + 1


def test_timings_outside_a_call_are_collected_too() -> None:
    """In-process use gets a fresh list, and leaves no scope behind."""
    with telemetry.collect_timings() as timings:
        telemetry.record_stage("probe", "search", 0.5)
    assert timings == [("search", 0.5)]
    assert telemetry.SCOPE.get() is None


def test_timings_of_a_call_are_the_calls_own(scope: telemetry.RequestScope) -> None:
    """Inside a call, collecting gives the list of that call."""
    with telemetry.collect_timings() as timings:
        telemetry.record_stage("probe", "search", 0.5)
    assert timings is scope.timings


def test_a_thread_with_a_copied_context_adds_to_the_same_call(scope: telemetry.RequestScope) -> None:
    """Fan-out threads that run in a copy of the context report to the call they work for."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(copy_context().run, telemetry.record_stage, "probe", "embed", 0.1).result()
        pool.submit(telemetry.record_stage, "probe", "embed", 0.2).result()
    assert scope.timings == [("embed", 0.1)]


def test_all_metrics_are_prefixed_and_described() -> None:
    """Names start with bowerbird_, grpc_server_ or the standard process prefixes, and have a help text."""
    families = list(telemetry.REGISTRY.collect())
    assert len(families) > 20
    for family in families:
        assert family.name.startswith(("bowerbird_", "grpc_server_", "process_", "python_")), family.name
        assert family.documentation, family.name


@pytest.mark.parametrize("edges", [telemetry.REQUEST_SECONDS, telemetry.STAGE_SECONDS_EDGES, telemetry.LONG_SECONDS])
def test_bucket_edges_rise(edges: tuple[float, ...]) -> None:
    """Edges are strictly rising, so no bucket is empty by construction."""
    assert list(edges) == sorted(set(edges))
