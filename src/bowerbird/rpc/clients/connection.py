"""How every typed client reaches its server: one channel, one way to call, one way to fail.

A connection balances over all addresses of its target, leaves out servers that say they are not ready, and retries
what never reached a server (`service_config.json`). A call made while another is being answered passes on that call's
request id and the rest of its deadline, and ends with it.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bowerbird import telemetry
from bowerbird.errors import BowerbirdError, ConfigInvalid, DeadlineExceeded, DependencyDown
from bowerbird.rpc import status
from bowerbird.rpc.context import REQUEST_ID_HEADER, current_or_none
from bowerbird.rpc.metrics import CODE_NAMES

DEFAULT_TIMEOUT_S = 30.0
REPLY_MARGIN_S = 0.005  # kept back from an inherited deadline, for our own answer to go out
MAX_MESSAGE_BYTES = 16 * 2**20

Metadata = tuple[tuple[str, str], ...]


class Connection:
    """A channel to one target; safe to share between threads and clients.

    Attributes:
        target: as given to `connect`.
        channel: for generated stubs.
        timeout_s: of calls that name none.
    """

    def __init__(self, target: str, channel: grpc.Channel, *, token: str | None, timeout_s: float) -> None:
        self.target = target
        self.channel = channel
        self.timeout_s = timeout_s
        self._metadata: Metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._health = health_pb2_grpc.HealthStub(channel)

    def call(self, method: Any, request: Any, *, service: str, timeout_s: float | None = None) -> Any:
        """The response of a unary call.

        Args:
            method: of a generated stub.
            service: full name, for the metrics.
            timeout_s: None: the connection's; never more than what is left of the call being answered.
        Raises:
            BowerbirdError: the server's own error rebuilt, or `DependencyDown` when there is no server.
        """
        start = time.monotonic()
        seconds, metadata = self._bounds(timeout_s)
        outer = current_or_none()
        try:
            if outer is None:
                response = method(request, timeout=seconds, metadata=metadata)
            else:
                future = method.future(request, timeout=seconds, metadata=metadata)
                if not outer.on_end(future.cancel):
                    future.cancel()
                response = future.result()
        except grpc.RpcError as error:
            self._observe(service, error.code(), start)
            raise status.from_rpc_error(error, self.target) from None
        except grpc.FutureCancelledError:
            self._observe(service, grpc.StatusCode.CANCELLED, start)
            raise status.from_code(grpc.StatusCode.CANCELLED, self.target) from None
        self._observe(service, grpc.StatusCode.OK, start)
        return response

    def stream(self, method: Any, request: Any, *, service: str, timeout_s: float | None = None) -> Iterator[Any]:
        """The responses of a server-streaming call, as they come; closing the iterator cancels the call.

        Raises:
            BowerbirdError: as `call`.
        """
        start = time.monotonic()
        seconds, metadata = self._bounds(timeout_s)
        responses = method(request, timeout=seconds, metadata=metadata)
        outer = current_or_none()
        if outer is not None and not outer.on_end(responses.cancel):
            responses.cancel()
        try:
            yield from responses
        except grpc.RpcError as error:
            self._observe(service, error.code(), start)
            raise status.from_rpc_error(error, self.target) from None
        finally:
            responses.cancel()  # no effect on a finished call
        self._observe(service, grpc.StatusCode.OK, start)

    def health(self, name: str = "", *, timeout_s: float = 2.0) -> bool:
        """Whether the server says that `name` is serving: a service's full name, "" (all), startup or liveness.

        Raises:
            BowerbirdError: no server answers.
        """
        try:
            answer = self._health.Check(health_pb2.HealthCheckRequest(service=name), timeout=timeout_s)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return False
            raise status.from_rpc_error(error, self.target) from None
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def wait_ready(self, timeout_s: float) -> None:
        """Return when a server is there and ready.

        Raises:
            DependencyDown: none was within the time.
        """
        ready = grpc.channel_ready_future(self.channel)
        try:
            ready.result(timeout=timeout_s)
        except grpc.FutureTimeoutError:
            ready.cancel()
            raise DependencyDown(
                f"no ready server at {self.target} within {timeout_s:g} s; is the server running?", retry_after_s=1.0
            ) from None

    def close(self) -> None:
        """Cancel what is under way and disconnect."""
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _bounds(self, timeout_s: float | None) -> tuple[float, Metadata]:
        """Seconds and metadata of an outbound call.

        Raises:
            DeadlineExceeded: nothing is left of the call being answered.
        """
        seconds = self.timeout_s if timeout_s is None else timeout_s
        outer = current_or_none()
        if outer is None:
            return seconds, self._metadata
        seconds = min(seconds, outer.remaining_s() - REPLY_MARGIN_S)
        if seconds <= 0:
            raise DeadlineExceeded(f"no time was left to call {self.target}; allow more time")
        return seconds, (*self._metadata, (REQUEST_ID_HEADER, outer.request_id))

    def _observe(self, service: str, code: grpc.StatusCode, start: float) -> None:
        seconds = time.monotonic() - start
        telemetry.CLIENT_SECONDS.labels(service, self.target, CODE_NAMES[code]).observe(seconds)


def connect(
    target: str,
    *,
    token: str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    tls: bool = False,
    tls_ca: Path | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    health_check: bool = True,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> Connection:
    """A connection; nothing is sent before the first call.

    Args:
        target: `host:port`, or any gRPC target, e.g. `dns:///embedder.prod.svc:50051` for all replicas.
        token: bearer token; send it over TLS or loopback only.
        timeout_s: of calls that name none.
        tls: encrypt; also on when one of the files is given.
        tls_ca: PEM file of the authority that signed the server's certificate; None: the system's authorities.
        tls_cert, tls_key: PEM files of our own certificate, for mutual TLS.
        health_check: leave out servers that say they are not ready.
        max_message_bytes: of one request or response.
    Raises:
        ConfigInvalid: a file cannot be read, or only one of `tls_cert` and `tls_key` is given.
    """
    options = _options(target, health_check=health_check, max_message_bytes=max_message_bytes)
    if tls or tls_ca or tls_cert or tls_key:
        if (tls_cert is None) != (tls_key is None):
            raise ConfigInvalid("expected both of tls_cert and tls_key, got one; mutual TLS needs the pair")
        credentials = grpc.ssl_channel_credentials(_read(tls_ca), _read(tls_key), _read(tls_cert))
        channel = grpc.secure_channel(target, credentials, options)
    else:
        channel = grpc.insecure_channel(target, options)
    return Connection(target, channel, token=token, timeout_s=timeout_s)


def service_config(*, health_check: bool = True) -> str:
    """The shipped service config as JSON, for clients in other languages too."""
    config = json.loads(resources.files("bowerbird.rpc").joinpath("service_config.json").read_text())
    if not health_check:
        del config["healthCheckConfig"]
    return json.dumps(config)


def _options(target: str, *, health_check: bool, max_message_bytes: int) -> list[tuple[str, str | int]]:
    return [
        ("grpc.service_config", service_config(health_check=health_check)),
        ("grpc.enable_retries", 1),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 5_000),  # in truth: how long one attempt to connect may take, TLS and all
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.use_local_subchannel_pool", 1),  # a connection that failed elsewhere must not delay this one
        ("grpc.enable_http_proxy", 0 if _is_loopback(target) else 1),
    ]


def _is_loopback(target: str) -> bool:
    host = target.rpartition("/")[2].rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or target.startswith("unix:")


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigInvalid(f"cannot read {path}: {error.strerror}; it must be a PEM file") from error


class Client:
    """Base of the typed clients: a connection, and calls on a service of it."""

    service = ""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def _call(self, method: Any, request: Any, timeout_s: float | None, service: str | None = None) -> Any:
        return self.connection.call(method, request, service=service or self.service, timeout_s=timeout_s)


Progress = Callable[[float], None]
__all__ = ["BowerbirdError", "Client", "Connection", "Metadata", "Progress", "connect", "service_config"]
