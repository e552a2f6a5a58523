"""The three services that discovery asks: over gRPC, or in the same process."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bowerbird.errors import ConfigInvalid
from bowerbird.rpc.clients import Connection, DetectorClient, EmbedderClient, RetrievalClient, connect
from bowerbird.rpc.local import LocalConnection
from bowerbird.rpc.server import Service

from .config import UNSET, DiscoveryConfig
from .engine import DiscoveryEngine


@dataclass(frozen=True)
class Neighbours:
    """One client each; services at the same target share a connection."""

    detector: DetectorClient
    embedder: EmbedderClient
    retrieval: RetrievalClient

    def close(self) -> None:
        """Disconnect."""
        for client in (self.detector, self.embedder, self.retrieval):
            client.connection.close()


def connect_neighbours(config: DiscoveryConfig) -> Neighbours:
    """Clients for the targets of the settings; nothing is sent before the first call.

    Raises:
        ConfigInvalid: the token or a certificate cannot be read.
    """
    token = _read_token(config.auth_token_file)
    connections: dict[str, Connection] = {}

    def link(target: str) -> Connection:
        if target not in connections:
            connections[target] = connect(
                target,
                token=token,
                tls_ca=_given(config.tls_ca),
                tls_cert=_given(config.tls_cert),
                tls_key=_given(config.tls_key),
            )
        return connections[target]

    return Neighbours(
        DetectorClient(link(config.detector_target)),
        EmbedderClient(link(config.embedder_target)),
        RetrievalClient(link(config.retrieval_target)),
    )


def connect_inside(services: Sequence[Service]) -> Neighbours:
    """Clients for services of this process, whatever the settings say of other processes."""
    connection = LocalConnection(services)
    return Neighbours(DetectorClient(connection), EmbedderClient(connection), RetrievalClient(connection))


def build_engine(config: DiscoveryConfig, neighbours: Neighbours) -> DiscoveryEngine:
    """The engine that asks them."""
    return DiscoveryEngine(
        config, detector=neighbours.detector, embedder=neighbours.embedder, retrieval=neighbours.retrieval
    )


def _given(path: Path) -> Path | None:
    return None if path == UNSET else path


def _read_token(file: Path) -> str | None:
    if file == UNSET:
        return None
    try:
        token = file.read_bytes().strip()
    except OSError as error:
        raise ConfigInvalid(f"[discovery] auth_token_file: cannot read {file}: {error.strerror}") from error
    if not re.fullmatch(rb"[!-~]+", token):  # a header takes nothing else, and an empty one would send none
        raise ConfigInvalid(f"[discovery] auth_token_file: expected one token of printable ASCII in {file}")
    return token.decode()
