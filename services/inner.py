"""The inner listener of a process that serves everything, for the calls that its own services make to each other.

A call that waits for another call must not wait for the same threads, so these calls have a server of their own. It
listens on loopback, on a port that the system chooses, and answers only to a token that is made at start and never
leaves the process: whoever has neither certificate nor token for the outer server has no way in here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bowerbird.rpc.server import Server, ServerConfig, Service

CALLS_AT_ONCE = 2  # that one call makes: discovery embeds and detects at the same time


@dataclass(frozen=True)
class Inner:
    """A running inner server and the token for it."""

    server: Server
    token: str


def start_inner(services: Sequence[Service], outer: ServerConfig) -> Inner:
    """The inner server, listening; the outer one still warms the services up and closes them."""
    token = secrets.token_urlsafe(32)
    digest = hashlib.sha256(token.encode()).hexdigest()
    workers = CALLS_AT_ONCE * outer.max_workers  # so that no call of the outer server ever waits for a thread here
    with TemporaryDirectory() as folder:
        tokens_file = Path(folder) / "tokens.toml"
        tokens_file.write_text(f'[[tokens]]\nname = "inner"\nsha256 = "{digest}"\nrole = "read"\n')
        config = ServerConfig(
            port=0,
            admin_port=-1,
            max_workers=workers,
            max_concurrent_rpcs=workers,
            max_message_bytes=outer.max_message_bytes,
            auth_tokens_file=tokens_file,
            reflection=False,
            access_log="off",  # the outer call that fails with an inner one is logged
        )
        server = Server(
            config, [dataclasses.replace(service, warm_up=_nothing, close=_nothing) for service in services]
        )
    server.start()
    return Inner(server, token)


def _nothing() -> None:
    """Warming up and closing are the outer server's."""
