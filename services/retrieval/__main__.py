"""The retrieval service as a process: `python -m services.retrieval`."""

from __future__ import annotations

import sys

from bowerbird import config
from bowerbird.errors import BowerbirdError
from bowerbird.rpc.server import ServerConfig, serve

from .config import RetrievalConfig
from .engine import RetrievalEngine
from .server import build_services


def main() -> int:
    """Serve until told to stop; the exit code."""
    try:
        config.check_sections({"server", "retrieval"})
        server_config = config.load(ServerConfig, "server")
        engine = RetrievalEngine(config.load(RetrievalConfig, "retrieval"))
    except BowerbirdError as error:
        sys.stderr.write(f"cannot start: {error}\n")
        return 2
    return serve(server_config, build_services(engine))


if __name__ == "__main__":
    sys.exit(main())
