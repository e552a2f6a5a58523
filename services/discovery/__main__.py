"""The discovery service as a process: `python -m services.discovery`; whom it asks are other processes."""

import sys

from bowerbird import config
from bowerbird.errors import ConfigInvalid
from bowerbird.rpc.server import ServerConfig, serve

from .config import DiscoveryConfig
from .neighbours import build_engine, connect_neighbours
from .server import build_services


def main() -> int:
    """Serve until told to stop; the exit code."""
    try:
        config.check_sections({"server", "discovery"})
        server_config, own = config.load(ServerConfig, "server"), config.load(DiscoveryConfig, "discovery")
        neighbours = connect_neighbours(own)
    except ConfigInvalid as error:
        sys.stderr.write(f"cannot start: {error}\n")
        return 2
    return serve(server_config, build_services(build_engine(own, neighbours), close=neighbours.close))


if __name__ == "__main__":
    sys.exit(main())
