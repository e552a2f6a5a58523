"""The one way to start a server, used by every service.

bind -> warm up -> ready -> ... -> SIGTERM: not ready -> drain delay -> finish calls -> close services -> exit 0

ServerConfig, Method, Service    what a service's `__main__` and `server` hand over
Server                           one server; for tests and for processes with a life of their own
serve                            the whole life of a server process
"""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from types import FrameType
from typing import Any, cast

import grpc
from grpc_reflection.v1alpha import reflection

from bowerbird import __version__, telemetry
from bowerbird.errors import BowerbirdError, ConfigInvalid
from bowerbird.rpc.admin import AdminServer
from bowerbird.rpc.admission import Admission, Gate, Workers
from bowerbird.rpc.auth import Authoriser
from bowerbird.rpc.handlers import BoundMethod, Registrar, add_handlers, method_kind, wrap
from bowerbird.rpc.health import SERVICE_NAME, Health
from bowerbird.rpc.service import Method, Role, Service
from bowerbird.rpc.settings import UNSET, ServerConfig
from bowerbird.rpc.tls import server_credentials

__all__ = ["Method", "Role", "Server", "ServerConfig", "Service", "serve"]

_log = telemetry.get_logger("bowerbird.rpc.server")
_PROBE_WORKERS = 16  # started when needed; each may wait a moment for the request of a slow probe
_SCHEMA_WORKERS = 8  # streams of reflection at once; the others wait
_SCHEMA_RULES = Method(default_deadline_s=60, max_deadline_s=600, role="read")
_LONGEST_CALL_S = 3600  # a snapshot, which must outlive the age of its connection
_LAST_WORDS_S = 0.2  # for refusals on their way out when nothing else is in flight


class Server:
    """One gRPC server with its admin port.

    Attributes:
        port: of gRPC, after `start`.
        admin_port: of HTTP, after `start`; -1 if there is none.
    """

    def __init__(self, config: ServerConfig, services: Sequence[Service]) -> None:
        """
        Raises:
            ConfigInvalid: the tokens file or a certificate is not valid.
        """
        self.config = config
        tokens_file = config.auth_tokens_file
        authoriser = Authoriser.from_file(tokens_file) if tokens_file != UNSET else None  # may raise: before any thread
        self.port = self.admin_port = -1
        self._services = list(services)
        self._workers = Workers(min(config.max_workers, config.max_concurrent_rpcs))
        self._probes = futures.ThreadPoolExecutor(_PROBE_WORKERS, thread_name_prefix="rpc-probe")
        self._schema = futures.ThreadPoolExecutor(_SCHEMA_WORKERS, thread_name_prefix="rpc-schema")
        self._admission = Admission(self._workers, config.max_concurrent_rpcs, self._probes)
        self._health = Health([service.full_name for service in services], self._probes)
        self._admin: AdminServer | None = None
        self._stopping, self._asked_to_stop, self._closed = threading.Lock(), threading.Event(), threading.Event()
        self._clean = True
        self._heartbeat = threading.Thread(target=self._watch_heartbeats, name="heartbeat", daemon=True)
        self._grpc = grpc.server(
            cast(futures.ThreadPoolExecutor, self._workers),
            interceptors=[self._admission],
            options=_channel_options(config),
        )
        self._health.register(self._grpc)
        self._register(authoriser)

    @property
    def target(self) -> str:
        """`host:port` for a client on this machine."""
        return self.config.address(self.port)

    @property
    def in_flight(self) -> int:
        """Calls taken and not finished."""
        return self._workers.in_flight

    def start(self) -> None:
        """Listen, warm the services up, and say that they are ready.

        Raises:
            ConfigInvalid: a port is taken, or the certificate does not fit its key.
            BowerbirdError: a service cannot warm up; nothing is left listening.
        """
        try:
            self._bind()
            if self.config.admin_port >= 0:
                self._admin = AdminServer(self.config.host, self.config.admin_port, self._health)
                self.admin_port = self._admin.port
            self._grpc.start()
            self._heartbeat.start()
            for service in self._services:
                service.warm_up()
        except BaseException:
            self.stop(grace_s=0)
            raise
        telemetry.BUILD_INFO.labels(__version__).set(1)
        self._admission.gate = Gate.OPEN
        self._health.set_ready(ready=True)

    def drain(self) -> bool:
        """Stop without failing a call: not ready, wait for balancers to see it, finish what is under way, close.

        Returns:
            Whether every call finished and every service closed without a fault.
        """
        self._health.set_ready(ready=False)
        time.sleep(self.config.drain_delay_s)
        self._admission.gate = Gate.DRAINING
        end = time.monotonic() + self.config.grace_s
        while self._workers.in_flight and time.monotonic() < end:
            time.sleep(0.01)
        left = self._workers.in_flight
        if left:
            _log.error("calls did not finish within the grace period", extra={"calls": left})
        return self.stop(grace_s=0 if left else _LAST_WORDS_S) and not left

    def stop(self, grace_s: float = 0) -> bool:
        """Stop now: calls under way have `grace_s` seconds, then the services are closed.

        Returns:
            Whether every service closed without a fault.
        """
        with self._stopping:
            first = not self._asked_to_stop.is_set()
            self._asked_to_stop.set()
        if not first:
            self._closed.wait()
            return self._clean
        self._health.set_ready(ready=False)
        self._grpc.stop(grace_s).wait()
        closed = [self._close(service) for service in reversed(self._services)]  # all of them, whatever fails
        if self._admin is not None:
            self._admin.close()
        self._health.close()
        self._workers.shutdown()
        self._probes.shutdown(wait=False)
        self._schema.shutdown(wait=False)
        self._clean = all(closed)
        self._closed.set()
        return self._clean

    def wait(self) -> None:
        """Block until the server has stopped and its services are closed."""
        self._closed.wait()

    def _bind(self) -> None:
        address = self.config.address(self.config.port)
        try:
            if self.config.has_tls:
                self.port = self._grpc.add_secure_port(address, server_credentials(self.config))
            else:
                self.port = self._grpc.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigInvalid(
                f"[server] port: cannot listen on {address} (taken, or not ours); "
                "stop the process that has it, or set BOWERBIRD_SERVER_PORT to another one (0: any)"
            ) from error

    def _register(self, authoriser: Authoriser | None) -> None:
        for service in self._services:
            registrar = Registrar()
            service.register(service.servicer, cast(grpc.Server, registrar))
            handlers = registrar.handlers[service.full_name]
            if set(handlers) != set(service.methods):
                raise ValueError(
                    f"{service.full_name}: expected rules for the methods {sorted(handlers)}, "
                    f"got {sorted(service.methods)}"
                )
            self._add(service.full_name, handlers, service.methods, authoriser)
        if self.config.reflection:
            names = [*(service.full_name for service in self._services), SERVICE_NAME, reflection.SERVICE_NAME]
            registrar = Registrar()
            reflection.enable_server_reflection(names, cast(grpc.Server, registrar))
            for name, handlers in registrar.handlers.items():  # a tool's stream is open as long as it likes
                self._add(name, handlers, dict.fromkeys(handlers, _SCHEMA_RULES), authoriser, pool=self._schema)

    def _add(
        self,
        service: str,
        handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]],
        rules: Mapping[str, Method],
        authoriser: Authoriser | None,
        *,
        pool: futures.ThreadPoolExecutor | None = None,
    ) -> None:
        """Serve the methods of one service with everything around them."""
        wrapped = {}
        for name, handler in handlers.items():
            bound = BoundMethod(service, name, method_kind(handler), rules[name], authoriser, self.config.access_log)
            wrapped[name] = wrap(handler, bound, pool)
            self._admission.guard(bound.path, handler, bound)
        add_handlers(self._grpc, service, wrapped)

    def _watch_heartbeats(self) -> None:
        was_alive = True
        while not self._asked_to_stop.wait(self.config.heartbeat_s):
            dead = [service.full_name for service in self._services if not _is_alive(service)]
            self._health.set_alive(alive=not dead)
            if was_alive and dead:
                _log.error("services make no progress", extra={"services": dead})
            was_alive = not dead

    def _close(self, service: Service) -> bool:
        try:
            service.close()
        except Exception:
            _log.exception("closing failed", extra={"service": service.full_name})
            return False
        return True


def serve(
    config: ServerConfig, services: Sequence[Service], *, on_ready: Callable[[Server], None] | None = None
) -> int:
    """Exit code of a server process: 0 after a clean drain, 1 if it could not start or did not end cleanly.

    Blocks. SIGTERM or SIGINT drains; a second one ends the process at once. Main thread only.

    Args:
        on_ready: called once with the server when it is ready.
    """
    telemetry.configure_logging(config.log_level, config.log_format)
    asked_to_stop = threading.Event()
    previous = {number: signal.signal(number, _stopper(asked_to_stop)) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server = _start(config, services, on_ready)
        if server is None:
            return 1
        asked_to_stop.wait()
        _log.info("draining", extra={"calls": server.in_flight, "drain_delay_s": config.drain_delay_s})
        clean = server.drain()
        if server.in_flight:
            _exit_now(1)  # a thread still runs; the interpreter must not be taken apart under it
        _log.info("stopped", extra={"clean": clean})
        return 0 if clean else 1
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _start(
    config: ServerConfig, services: Sequence[Service], on_ready: Callable[[Server], None] | None
) -> Server | None:
    """The server, ready; None if it could not start, which the log then explains."""
    try:
        server = Server(config, services)
        server.start()
    except BowerbirdError as error:
        _log.error("cannot start: %s", error)
        return None
    except Exception:
        _log.exception("cannot start")
        return None
    gc.collect()
    gc.freeze()  # what warm-up made stays; collections need not look at it again
    _log.info("ready", extra={"target": server.target, "admin_port": server.admin_port} | config.defences)
    if on_ready is not None:
        on_ready(server)
    return server


def _stopper(asked_to_stop: threading.Event) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, _frame: FrameType | None) -> None:
        if asked_to_stop.is_set():
            _exit_now(128 + number)
        asked_to_stop.set()

    return handle


def _exit_now(code: int) -> None:
    """End the process without waiting for anything; acknowledged writes are on disk already."""
    logging.shutdown()
    os._exit(code)


def _is_alive(service: Service) -> bool:
    try:
        alive = service.is_alive()
    except Exception:
        _log.exception("heartbeat failed", extra={"service": service.full_name})
        alive = False
    telemetry.ALIVE.labels(service.full_name).set(alive)
    return alive


def _channel_options(config: ServerConfig) -> list[tuple[str, int]]:
    age_ms = int(config.connection_age_s * 1000 * random.uniform(0.9, 1.1))  # noqa: S311 (spreads reconnections)
    return [
        ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.max_concurrent_streams", 512),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),  # the default rejects common clients
        ("grpc.max_connection_age_ms", age_ms),
        ("grpc.max_connection_age_grace_ms", _LONGEST_CALL_S * 1000),
    ]
