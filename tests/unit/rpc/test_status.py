"""Every error class has a status, a reason and a way back."""

import grpc
import pytest
from google.rpc import error_details_pb2

from bowerbird import errors
from bowerbird.errors import BowerbirdError
from bowerbird.rpc import status

KINDS = [kind for kind in status.walk() if kind.__module__ == "bowerbird.errors"]
ON_THE_WIRE = [kind for kind in KINDS if issubclass(kind, tuple(status.CODES))]


class FailedCall(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str, trailers: tuple[tuple[str, object], ...] = ()) -> None:
        self._code, self._details, self._trailers = code, details, trailers

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> tuple[tuple[str, object], ...]:
        return self._trailers


def there_and_back(error: BowerbirdError) -> BowerbirdError:
    rich = status.to_status(error, "r-1")
    code = next(code for code in grpc.StatusCode if code.value[0] == rich.code)
    return status.from_rpc_error(FailedCall(code, rich.message, status.trailers(error, rich)), "127.0.0.1:1")


def info_of(error: BowerbirdError) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    assert status.to_status(error, "r-1").details[0].Unpack(info)
    return info


def test_the_walk_finds_the_whole_tree() -> None:
    """Every class that bowerbird.errors defines is found by walking from the root."""
    defined = {
        thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, BowerbirdError)
    }
    assert set(KINDS) == defined


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_class_has_a_code_and_a_reason(kind: type[BowerbirdError]) -> None:
    """No class is left to chance: it maps to one code, with advice, and to a reason in capitals."""
    assert status.code_of(kind) in status.ADVICE
    assert status.reason_of(kind).replace("_", "").isupper()
    direct_or_inherited = any(ancestor in status.CODES for ancestor in kind.__mro__)
    assert direct_or_inherited or kind in (BowerbirdError, errors.ConfigInvalid)


def test_reasons_are_unique() -> None:
    """Two classes never share a reason, so a client can tell them apart."""
    reasons = [status.reason_of(kind) for kind in ON_THE_WIRE]
    assert len(reasons) == len(set(reasons))


@pytest.mark.parametrize("kind", ON_THE_WIRE, ids=lambda kind: kind.__name__)
def test_an_error_survives_the_wire(kind: type[BowerbirdError]) -> None:
    """Class, message, field and delay that a server raises are what a client catches."""
    back = there_and_back(kind("expected a, got b; do c", field="query.code", retry_after_s=1.5))
    assert type(back) is kind
    assert (back.message, back.field, back.retry_after_s) == ("expected a, got b; do c", "query.code", 1.5)


@pytest.mark.parametrize("kind", [BowerbirdError, errors.ConfigInvalid])
def test_what_must_not_reach_the_wire_becomes_a_bug_without_its_message(kind: type[BowerbirdError]) -> None:
    """The root class and start-up faults are our mistakes on the wire; their text stays in the log."""
    back = there_and_back(kind("password in /etc/secret"))
    assert type(back) is errors.Internal
    assert "secret" not in back.message
    assert "r-1" in back.message


def test_the_status_says_reason_domain_and_request_id() -> None:
    """ErrorInfo is there with our domain and the id to look for in the log."""
    info = info_of(errors.IndexNotFound("no index x"))
    assert (info.reason, info.domain, dict(info.metadata)) == ("INDEX_NOT_FOUND", "bowerbird", {"request_id": "r-1"})


def test_overload_and_unavailability_say_when_to_come_back() -> None:
    """Both carry RetryInfo even if the raiser named no delay; an invalid request carries none."""
    assert status.retry_after_of(errors.QueueFull("full")) == status.RETRY_AFTER_S[errors.Overloaded]
    assert status.retry_after_of(errors.Draining("bye")) == status.RETRY_AFTER_S[errors.Unavailable]
    assert status.retry_after_of(errors.ArgumentInvalid("no")) is None


def test_only_an_explicit_delay_is_pushed_back_to_the_transport() -> None:
    """A retrying transport waits as long as the raiser said; without a word it uses its own backoff."""
    named, unnamed = errors.QueueFull("full", retry_after_s=0.25), errors.QueueFull("full")
    assert (status.PUSHBACK_HEADER, "250") in status.trailers(named, status.to_status(named, ""))
    assert len(status.trailers(unnamed, status.to_status(unnamed, ""))) == 1


def test_a_huge_message_fits_the_trailers() -> None:
    """Details stay well under the 8 KiB that peers accept, however long the message is."""
    error = errors.ArgumentInvalid("é" * 100_000, field="f" * 10_000)
    rich = status.to_status(error, "r" * 128)
    assert len(rich.SerializeToString()) < 4096
    assert rich.message.endswith("…")


@pytest.mark.parametrize("character", ["a", "é", "€", "😀"])
@pytest.mark.parametrize("length", [10, 16, 200])
def test_text_is_cut_between_characters(character: str, length: int) -> None:
    """At most so many bytes come out, never half a character, and short texts stay as they are."""
    text = character * length
    short = status.cut(text, 40)
    assert len(short.encode()) <= 40
    assert short == text if len(text.encode()) <= 40 else text.startswith(short.removesuffix("…")) and short[-1] == "…"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.DependencyDown),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.CANCELLED, errors.Cancelled),
        (grpc.StatusCode.UNIMPLEMENTED, errors.FailedPrecondition),
        (grpc.StatusCode.UNAUTHENTICATED, errors.Unauthenticated),
        (grpc.StatusCode.UNKNOWN, errors.Internal),
        (grpc.StatusCode.INTERNAL, errors.Internal),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Overloaded),
    ],
)
def test_a_failure_of_the_transport_names_the_target(code: grpc.StatusCode, kind: type[BowerbirdError]) -> None:
    """A status without our details becomes the nearest error, and says which server it was."""
    error = status.from_rpc_error(FailedCall(code, "broken pipe"), "10.0.0.7:50051")
    assert type(error) is kind
    assert "10.0.0.7:50051" in error.message


def test_no_server_asks_whether_it_runs() -> None:
    """The most frequent failure of all comes with the question that solves it."""
    error = status.from_rpc_error(FailedCall(grpc.StatusCode.UNAVAILABLE, "refused"), "localhost:1")
    assert "is the server running?" in error.message


def test_an_oversized_message_is_the_callers_fault() -> None:
    """The transport's RESOURCE_EXHAUSTED for size is no overload: sending it again will not help."""
    details = "SERVER: Received message larger than max (17 vs. 16)"
    error = status.from_rpc_error(FailedCall(grpc.StatusCode.RESOURCE_EXHAUSTED, details), "localhost:1")
    assert type(error) is errors.ArgumentInvalid


def test_damaged_or_foreign_details_do_not_break_the_client() -> None:
    """Details that are no status, or of another domain, are treated as if there were none."""
    damaged = FailedCall(grpc.StatusCode.NOT_FOUND, "gone", ((status.DETAILS_HEADER, b"\xff\xff"),))
    assert type(status.from_rpc_error(damaged, "localhost:1")) is errors.NotFound
    foreign = status.to_status(errors.ItemNotFound("gone"), "")
    info = error_details_pb2.ErrorInfo(reason="ITEM_NOT_FOUND", domain="example.com")
    foreign.details[0].Pack(info)
    other = FailedCall(grpc.StatusCode.NOT_FOUND, "gone", ((status.DETAILS_HEADER, foreign.SerializeToString()),))
    assert type(status.from_rpc_error(other, "localhost:1")) is errors.NotFound


def test_a_reason_of_a_newer_server_becomes_internal() -> None:
    """A per-item reason that this client does not know is kept as a fault of the server."""
    assert type(status.from_reason("ITEM_NOT_FOUND", "gone")) is errors.ItemNotFound
    assert type(status.from_reason("NEW_REASON", "odd")) is errors.Internal
