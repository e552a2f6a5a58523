"""What tests of Bowerbird, and of programs that use it, need: servers in this process.

    with run_server(build_services(engine)) as (target, server):
        client = DetectorClient(connect(target))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bowerbird.rpc.server import Server, ServerConfig, Service

_QUICK = ServerConfig(port=0, admin_port=-1, drain_delay_s=0.0, grace_s=5.0, heartbeat_s=0.05)


@contextmanager
def run_server(services: Sequence[Service], **settings: object) -> Iterator[tuple[str, Server]]:
    """(`host:port`, server) of services that run in this process on free ports of loopback, warmed up and ready.

    The server is stopped, and the services closed, when the block ends.

    Args:
        services: what a service's `build_services` returns.
        settings: fields of `ServerConfig`, e.g. `admin_port=0` for one with metrics.
    """
    server = Server(dataclasses.replace(_QUICK, **settings), services)  # type: ignore[arg-type]
    server.start()
    try:
        yield server.target, server
    finally:
        server.stop()
