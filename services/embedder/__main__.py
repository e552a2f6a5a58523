"""Run the embedder alone: `python -m services.embedder`."""

from __future__ import annotations

from bowerbird import config
from bowerbird.images import PictureCache
from bowerbird.models import ModelsConfig
from bowerbird.rpc.server import ServerConfig, serve

from .config import EmbedderConfig
from .engine import EmbedderEngine
from .server import build_services


def main() -> int:
    """Exit code of the server process."""
    config.check_sections({"server", "models", "embedder"})
    settings = config.load(EmbedderConfig, "embedder")
    engine = EmbedderEngine(settings, PictureCache(settings.cache_bytes), config.load(ModelsConfig, "models"))
    return serve(config.load(ServerConfig, "server"), build_services(engine))


if __name__ == "__main__":
    raise SystemExit(main())
