"""Settings of the embedder service, section `embedder`."""

from __future__ import annotations

from dataclasses import dataclass

from bowerbird.errors import ConfigInvalid


@dataclass(frozen=True)
class EmbedderConfig:
    """Which model, and how much at once."""

    model: str = "efficientnet-lite0"
    """Name of the zoo's model that is served."""
    max_batch_size: int = 256
    """Inputs in one BatchEmbed."""
    run_batch_size: int = 16
    """Inputs of Embed calls computed together; more make the first of them wait without being faster."""
    max_delay_s: float = 0.002
    """How long an input of Embed may wait for company; less than a run takes."""
    max_queue: int = 256
    """Inputs of Embed that wait before work is refused; about one second of work on two cores."""
    chunk_size: int = 4
    """Inputs that one thread of BatchEmbed takes through decoding and the model at a time; on a processor small chunks
    stay in its cache, on CUDA use 32 or more."""
    max_pending: int = 1024
    """Inputs of all BatchEmbed calls accepted and not answered before work is refused; some seconds of work."""
    cache_bytes: int = 256 * 2**20
    """Bytes of decoded pixels kept when the service runs alone; about 300 photographs of 640 x 427."""

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "run_batch_size", "max_queue", "chunk_size"):
            if getattr(self, name) < 1:
                raise ConfigInvalid(f"[embedder] {name}: expected 1 or more, got {getattr(self, name)}")
        if self.max_pending < self.max_batch_size:
            raise ConfigInvalid(f"[embedder] max_pending: expected max_batch_size or more, got {self.max_pending}")
        if not 0 <= self.max_delay_s <= 1:
            raise ConfigInvalid(f"[embedder] max_delay_s: expected 0 to 1 second, got {self.max_delay_s}")
        if self.cache_bytes < 0:
            raise ConfigInvalid(f"[embedder] cache_bytes: expected 0 or more, got {self.cache_bytes}")
