"""Error class <-> gRPC status: the one place where they meet, on the server and in the clients.

A status carries `google.rpc.ErrorInfo` (reason of the closed list, domain `bowerbird`, the request id), `BadRequest`
with the field at fault, and `RetryInfo` where trying again makes sense. `docs/errors.md` lists all reasons; a test
keeps it equal to this table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from bowerbird import errors
from bowerbird.errors import BowerbirdError

DOMAIN = "bowerbird"
DETAILS_HEADER = "grpc-status-details-bin"
PUSHBACK_HEADER = "grpc-retry-pushback-ms"
MAX_MESSAGE_BYTES = 800  # UTF-8; sent twice, once with three characters a byte, in trailers that peers limit to 8 KiB
MAX_FIELD_BYTES = 200

Code = grpc.StatusCode

# The nearest class in the method resolution order counts, so a new leaf needs no line of its own.
CODES: dict[type[BowerbirdError], grpc.StatusCode] = {
    errors.InvalidInput: Code.INVALID_ARGUMENT,
    errors.NotFound: Code.NOT_FOUND,
    errors.AlreadyExists: Code.ALREADY_EXISTS,
    errors.FailedPrecondition: Code.FAILED_PRECONDITION,
    errors.Overloaded: Code.RESOURCE_EXHAUSTED,
    errors.StorageFull: Code.RESOURCE_EXHAUSTED,
    errors.DeadlineExceeded: Code.DEADLINE_EXCEEDED,
    errors.Unavailable: Code.UNAVAILABLE,
    errors.Cancelled: Code.CANCELLED,
    errors.Unauthenticated: Code.UNAUTHENTICATED,
    errors.PermissionDenied: Code.PERMISSION_DENIED,
    errors.DataLoss: Code.DATA_LOSS,
    errors.Internal: Code.INTERNAL,
}
# Seconds after which trying again makes sense, where the raiser does not know better.
RETRY_AFTER_S: dict[type[BowerbirdError], float] = {errors.Overloaded: 0.1, errors.Unavailable: 1.0}

ADVICE: dict[grpc.StatusCode, str] = {
    Code.INVALID_ARGUMENT: "no: change the request",
    Code.NOT_FOUND: "no: create it, or name another",
    Code.ALREADY_EXISTS: "no: use the one that exists, or take another name",
    Code.FAILED_PRECONDITION: "no: change the state first",
    Code.RESOURCE_EXHAUSTED: "after `RetryInfo`, with a bound",
    Code.DEADLINE_EXCEEDED: "with a longer deadline",
    Code.UNAVAILABLE: "yes, at another replica or after `RetryInfo`; the shipped service config does",
    Code.CANCELLED: "no: the caller gave up",
    Code.UNAUTHENTICATED: "no: send a valid token",
    Code.PERMISSION_DENIED: "no: ask for the role",
    Code.DATA_LOSS: "no: an operator must restore the file",
    Code.INTERNAL: "once; report it with the request id",
}

# Where the class knows better than its code.
OWN_ADVICE: dict[type[BowerbirdError], str] = {
    errors.ImageTokenExpired: "no: send the picture itself",
    errors.IndexChanged: "after reading what changed",
    errors.StorageFull: "once an operator has made room",
}

NOT_ON_THE_WIRE = (errors.ConfigInvalid,)  # raised at start only; over the wire it would be a bug


def walk(root: type[BowerbirdError] = BowerbirdError) -> Iterator[type[BowerbirdError]]:
    """`root` and all classes below it, depth first, in the order they were defined."""
    yield root
    for child in root.__subclasses__():
        yield from walk(child)


def code_of(kind: type[BowerbirdError]) -> grpc.StatusCode:
    """The status code of an error class; INTERNAL for what must not reach the wire."""
    if not issubclass(kind, NOT_ON_THE_WIRE):
        for ancestor in kind.__mro__:
            if ancestor in CODES:
                return CODES[ancestor]
    return Code.INTERNAL


def advice_of(kind: type[BowerbirdError]) -> str:
    """Whether a client may try again."""
    return OWN_ADVICE.get(kind) or ADVICE[code_of(kind)]


def reason_of(kind: type[BowerbirdError]) -> str:
    """The reason on the wire: the class's own, or its name in capitals where it only groups others."""
    if code_of(kind) is Code.INTERNAL and not issubclass(kind, errors.Internal):
        return errors.Internal.reason
    return kind.reason or re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).upper()


def retry_after_of(error: BowerbirdError) -> float | None:
    """Seconds after which trying again makes sense; None if never."""
    if error.retry_after_s is not None:
        return error.retry_after_s
    return next((RETRY_AFTER_S[kind] for kind in type(error).__mro__ if kind in RETRY_AFTER_S), None)


def cut(text: str, max_bytes: int = MAX_MESSAGE_BYTES) -> str:
    """The text, or its beginning and an ellipsis: at most `max_bytes` of UTF-8. Messages quote what callers send."""
    head = text[:max_bytes].encode(errors="replace")
    if len(text) <= max_bytes and len(head) <= max_bytes:
        return text
    return head[: max_bytes - len("…".encode())].decode(errors="ignore") + "…"


def to_status(error: BowerbirdError, request_id: str) -> status_pb2.Status:
    """The full status of an error, its message cut to what trailers can carry."""
    kind = type(error)
    if code_of(kind) is Code.INTERNAL and not isinstance(error, errors.Internal):
        message = f"internal error; the server's log has it under request id {request_id}"
    else:
        message = error.message
    message = cut(message)
    status = status_pb2.Status(code=code_of(kind).value[0], message=message)
    info = error_details_pb2.ErrorInfo(reason=reason_of(kind), domain=DOMAIN, metadata={"request_id": request_id})
    status.details.add().Pack(info)
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=cut(error.field, MAX_FIELD_BYTES), description=cut(message, MAX_FIELD_BYTES)
        )
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    retry_after_s = retry_after_of(error)
    if retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(retry_after_s * 1e9))
        status.details.add().Pack(retry)
    return status


def trailers(error: BowerbirdError, status: status_pb2.Status) -> tuple[tuple[str, str | bytes], ...]:
    """Trailing metadata of a failed call: the status, and how long a retrying transport shall wait."""
    head: tuple[tuple[str, str | bytes], ...] = ((DETAILS_HEADER, status.SerializeToString()),)
    if error.retry_after_s is None:
        return head
    return (*head, (PUSHBACK_HEADER, str(int(error.retry_after_s * 1e3))))


_BY_REASON: dict[str, type[BowerbirdError]] = {}


def _class_of(reason: str) -> type[BowerbirdError] | None:
    if not _BY_REASON:
        _BY_REASON.update({reason_of(kind): kind for kind in walk() if issubclass(kind, tuple(CODES))})
    return _BY_REASON.get(reason)


def from_reason(reason: str, message: str) -> BowerbirdError:
    """The error with this reason; Internal for one that a newer server may have."""
    return (_class_of(reason) or errors.Internal)(message)


def from_rpc_error(error: grpc.RpcError, target: str) -> BowerbirdError:
    """The error that the server raised, rebuilt; or the nearest one for a failure of the transport itself.

    Args:
        error: of a call made with the gRPC library.
        target: the server's address, for the message.
    """
    code, details = error.code(), error.details() or ""
    status = _read_status(error)
    field, retry_after_s, reason = "", None, ""
    for detail in status.details if status is not None else ():
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            reason = info.reason
        elif detail.Unpack(bad) and bad.field_violations:
            field = bad.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    kind = _class_of(reason)
    if kind is None:
        return from_code(code, target, details)
    return kind(details, field=field, retry_after_s=retry_after_s)


def _read_status(error: grpc.RpcError) -> status_pb2.Status | None:
    for key, value in cast("tuple[tuple[str, str | bytes], ...]", error.trailing_metadata() or ()):
        if key == DETAILS_HEADER and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def from_code(code: grpc.StatusCode, target: str, details: str = "") -> BowerbirdError:
    """The error for a status that the transport made, without our details."""
    if code is Code.UNAVAILABLE:
        return errors.DependencyDown(f"no answer from {target} ({details}); is the server running?", retry_after_s=1.0)
    if code is Code.DEADLINE_EXCEEDED:
        return errors.DeadlineExceeded(f"{target} did not answer in time ({details}); allow more time")
    if code is Code.CANCELLED:
        return errors.Cancelled(f"the call to {target} was cancelled")
    if code is Code.RESOURCE_EXHAUSTED and "larger than max" in details:
        return errors.ArgumentInvalid(f"message over the size limit ({details}); send less at once")
    if code is Code.UNIMPLEMENTED:
        return errors.FailedPrecondition(f"{target} does not serve this call ({details}); is it another service?")
    kind = next((kind for kind, own in CODES.items() if own is code), errors.Internal)
    return kind(f"{target}: {details}")
