"""Settings of the retrieval service, section `retrieval`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bowerbird.errors import ConfigInvalid

BACKENDS = ("auto", "native", "faiss-flat", "faiss-ivf", "faiss-hnsw", "reference")


@dataclass(frozen=True)
class RetrievalConfig:
    """Where items live and how they are scanned."""

    data_dir: Path = Path(".bowerbird/retrieval")
    """Indexes, snapshots and the lock file; one process at a time."""
    backend: str = "auto"
    """Of the code scan: auto, native, faiss-flat, faiss-ivf, faiss-hnsw or reference.
    auto is native up to `ivf_above_items` and faiss-ivf beyond."""
    ivf_above_items: int = 16_000_000
    """Items; the linear scan of 256-bit codes takes about 1.4 ms a million on one core, so up to here it stays under
    25 ms and loses nothing. The inverted file takes about half of that and loses a quarter of the candidates."""
    search_threads: int = 1
    """Threads of one search; concurrency comes from serving several searches at once."""
    rerank: int = 200
    """Candidates re-ranked exactly when a search does not say; keeps >= 99 % of exact R@10 at 256 bits."""
    max_batch_queries: int = 1024
    """Queries of one BatchSearch; bounds the time and the answer of a call."""
    checkpoint_bytes: int = 16 << 20
    """Size at which the write-ahead log is folded into the store; larger is faster to write, slower to open."""
    compact_dead_ratio: float = 0.3
    """Fraction of dead slots at which the in-memory arrays are rewritten; scans pay for dead slots until then."""
    verify_on_open: bool = True
    """Check the whole store (structure and a checksum an item) before serving from it."""

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ConfigInvalid(f"[retrieval] backend: expected one of {', '.join(BACKENDS)}, got {self.backend!r}")
        for name, low, high in (
            ("ivf_above_items", 0, 1 << 40),
            ("search_threads", 1, 1024),
            ("rerank", 1, 10_000),
            ("max_batch_queries", 1, 1 << 20),
            ("checkpoint_bytes", 1 << 16, 1 << 34),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigInvalid(f"[retrieval] {name}: expected {low} to {high}, got {value}")
        if not 0.0 < self.compact_dead_ratio < 1.0:
            raise ConfigInvalid(f"[retrieval] compact_dead_ratio: expected 0 < x < 1, got {self.compact_dead_ratio}")
