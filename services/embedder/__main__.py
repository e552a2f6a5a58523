"""The embedder as a process: `python -m services.embedder`."""

import sys

from bowerbird import config
from bowerbird.errors import BowerbirdError
from bowerbird.images import PictureCache
from bowerbird.models.settings import ModelsConfig
from bowerbird.rpc.server import ServerConfig, serve

from .config import EmbedderConfig
from .engine import EmbedderEngine
from .server import build_services


def main() -> int:
    """Serve until told to stop; the exit code."""
    try:
        config.check_sections({"server", "models", "embedder"})
        server, own = config.load(ServerConfig, "server"), config.load(EmbedderConfig, "embedder")
        engine = EmbedderEngine(own, PictureCache(own.cache_bytes), config.load(ModelsConfig, "models"))
    except BowerbirdError as error:
        sys.stderr.write(f"cannot start: {error}\n")
        return 2
    return serve(server, build_services(engine))


if __name__ == "__main__":
    sys.exit(main())
