"""Serve discovery alone: `python -m services.discovery`; detector, embedder and retrieval are other processes."""

from __future__ import annotations

import sys

from bowerbird.config import check_sections, load
from bowerbird.errors import ConfigInvalid
from bowerbird.rpc.server import ServerConfig, serve

from .config import DiscoveryConfig
from .engine import DiscoveryEngine
from .neighbours import connect_neighbours
from .server import build_services


def main() -> int:
    """Exit code of the process."""
    check_sections({"server", "discovery"})
    server, config = load(ServerConfig, "server"), load(DiscoveryConfig, "discovery")
    near = connect_neighbours(config)
    engine = DiscoveryEngine(config, detector=near.detector, embedder=near.embedder, retrieval=near.retrieval)
    try:
        return serve(server, build_services(engine))
    finally:
        near.close()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConfigInvalid as error:
        sys.exit(f"configuration: {error}")
