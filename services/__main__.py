"""All services in one process on one port: `python -m services`; discovery asks the others without leaving it."""

import sys

from bowerbird import config
from bowerbird.errors import BowerbirdError
from bowerbird.images import PictureCache
from bowerbird.models.settings import ModelsConfig
from bowerbird.rpc.server import ServerConfig, serve
from services.detector.config import DetectorConfig
from services.detector.engine import DetectorEngine
from services.detector.server import build_services as build_detector
from services.discovery.config import DiscoveryConfig
from services.discovery.neighbours import build_engine, connect_inside
from services.discovery.server import build_services as build_discovery
from services.embedder.config import EmbedderConfig
from services.embedder.engine import EmbedderEngine
from services.embedder.server import build_services as build_embedder
from services.retrieval.config import RetrievalConfig
from services.retrieval.engine import RetrievalEngine
from services.retrieval.server import build_services as build_retrieval

SECTIONS = {"server", "models", "detector", "embedder", "retrieval", "discovery"}


def main() -> int:
    """Serve until told to stop; the exit code."""
    try:
        config.check_sections(SECTIONS)
        server, models = config.load(ServerConfig, "server"), config.load(ModelsConfig, "models")
        detecting, embedding = config.load(DetectorConfig, "detector"), config.load(EmbedderConfig, "embedder")
        retrieving, discovering = config.load(RetrievalConfig, "retrieval"), config.load(DiscoveryConfig, "discovery")
        cache = PictureCache(max(detecting.cache_bytes, embedding.cache_bytes))  # one: each picture is decoded once
        detector, embedder = DetectorEngine(detecting, cache, models), EmbedderEngine(embedding, cache, models)
        sides = (side for info in (detector.info, embedder.info) for side in (info.input_width, info.input_height))
        cache.least_side = max(sides)
        others = [*build_detector(detector), *build_embedder(embedder), *build_retrieval(RetrievalEngine(retrieving))]
    except BowerbirdError as error:
        sys.stderr.write(f"cannot start: {error}\n")
        return 2
    return serve(server, [*others, *build_discovery(build_engine(discovering, connect_inside(others)))])


if __name__ == "__main__":
    sys.exit(main())
