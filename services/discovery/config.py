"""Settings of the discovery service, section `discovery`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bowerbird.errors import ConfigInvalid

UNSET = Path()  # an empty path: the setting is off


@dataclass(frozen=True)
class DiscoveryConfig:
    """Whom it asks, and what it remembers."""

    detector_target: str = "127.0.0.1:50052"
    """gRPC target of the detector; `dns:///name:port` of a headless Service spreads over its pods."""
    embedder_target: str = "127.0.0.1:50053"
    """gRPC target of the embedder."""
    retrieval_target: str = "127.0.0.1:50054"
    """gRPC target of the retrieval service."""
    auth_token_file: Path = UNSET
    """File that holds the bearer token for the three; unset: none is sent."""
    tls_ca: Path = UNSET
    """PEM file of the authority of the three; unset: connections are not encrypted."""
    tls_cert: Path = UNSET
    """PEM file of our certificate towards the three, for mutual TLS."""
    tls_key: Path = UNSET
    """PEM file of its key."""
    image_token_ttl_s: float = 900.0
    """Seconds that a picture is held after its last use; a person who looks at results comes back within minutes."""
    image_token_bytes: int = 256 << 20
    """Bytes of pictures held; about 3,000 photographs of 80 KiB."""
    detect_threads: int = 32
    """Detections that run beside the embedding of their picture at once; as many as the server has workers."""

    def __post_init__(self) -> None:
        for name in ("image_token_ttl_s", "image_token_bytes", "detect_threads"):
            if not getattr(self, name) > 0:
                raise ConfigInvalid(f"[discovery] {name}: expected more than 0, got {getattr(self, name)}")
        if (self.tls_cert == UNSET) != (self.tls_key == UNSET):
            raise ConfigInvalid("[discovery] tls_key: expected both of tls_cert and tls_key, got one")
