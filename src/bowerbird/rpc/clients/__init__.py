"""Typed clients: bytes, arrays and plain values in and out, `BowerbirdError` on failure.

with connect("127.0.0.1:50051") as connection:
    found = DiscoveryClient(connection).search_by_image(Path("cat.jpg").read_bytes())
    for hit in found.hits:
        print(hit.score, hit.fields["path"])
"""

from bowerbird.rpc.clients.answers import Detection, Info, ModelRef
from bowerbird.rpc.clients.connection import Connection, connect, service_config
from bowerbird.rpc.clients.detector import Detections, DetectorClient, DetectorModel
from bowerbird.rpc.clients.discovery import Analysis, Discoveries, DiscoveryClient
from bowerbird.rpc.clients.embedder import EmbedderClient, EmbedderModel, Embedding, Embeddings, Head, LabelScore
from bowerbird.rpc.clients.filters import parse_filter
from bowerbird.rpc.clients.records import Deleted, Hit, Index, Item, SearchParams, SearchResult, Snapshot, Written
from bowerbird.rpc.clients.retrieval import RetrievalClient

__all__ = [
    "Analysis",
    "Connection",
    "Deleted",
    "Detection",
    "Detections",
    "DetectorClient",
    "DetectorModel",
    "Discoveries",
    "DiscoveryClient",
    "EmbedderClient",
    "EmbedderModel",
    "Embedding",
    "Embeddings",
    "Head",
    "Hit",
    "Index",
    "Info",
    "Item",
    "LabelScore",
    "ModelRef",
    "RetrievalClient",
    "SearchParams",
    "SearchResult",
    "Snapshot",
    "Written",
    "connect",
    "parse_filter",
    "service_config",
]
