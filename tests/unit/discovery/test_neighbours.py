"""Settings of discovery, and how it connects to whom it asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from bowerbird.errors import ConfigInvalid
from services.discovery.config import DiscoveryConfig
from services.discovery.neighbours import connect_neighbours


def test_services_at_one_target_share_a_connection() -> None:
    """Two services of one process are reached over one channel, another process over its own."""
    near = connect_neighbours(
        DiscoveryConfig(detector_target="127.0.0.1:1", embedder_target="127.0.0.1:1", retrieval_target="127.0.0.1:2")
    )
    assert near.detector.connection is near.embedder.connection
    assert near.detector.connection is not near.retrieval.connection
    assert near.retrieval.connection.target == "127.0.0.1:2"
    near.close()


def test_an_unreadable_token_file_is_named(tmp_path: Path) -> None:
    """A token that cannot be read is an error at start, not at the first call."""
    with pytest.raises(ConfigInvalid, match=r"gone\.token"):
        connect_neighbours(DiscoveryConfig(auth_token_file=tmp_path / "gone.token"))


@pytest.mark.parametrize("content", [b"", b"\n", b"one\ntwo\n", b"\xff\xfet\x00", "schlüssel".encode()])
def test_a_file_without_one_token_is_refused(tmp_path: Path, content: bytes) -> None:
    """An empty file would send no token, and other bytes fit no header: both are errors at start."""
    file = tmp_path / "service.token"
    file.write_bytes(content)
    with pytest.raises(ConfigInvalid, match=r"service\.token"):
        connect_neighbours(DiscoveryConfig(auth_token_file=file))


def test_an_unreadable_certificate_is_named(tmp_path: Path) -> None:
    """So is a certificate, an authority's or our own."""
    gone = tmp_path / "gone.pem"
    for config in (DiscoveryConfig(tls_ca=gone), DiscoveryConfig(tls_cert=gone, tls_key=gone)):
        with pytest.raises(ConfigInvalid, match=r"gone\.pem"):
            connect_neighbours(config)


@pytest.mark.parametrize("name", ["image_token_ttl_s", "image_token_bytes", "detect_threads"])
@pytest.mark.parametrize("value", [0, -1])
def test_limits_must_be_positive(name: str, value: int) -> None:
    """Zero and negative limits are refused with the setting's name."""
    with pytest.raises(ConfigInvalid, match=name):
        DiscoveryConfig(**{name: value})  # type: ignore[arg-type]


def test_half_a_client_certificate_is_refused() -> None:
    """Mutual TLS needs both files."""
    with pytest.raises(ConfigInvalid, match="tls_key"):
        DiscoveryConfig(tls_cert=Path("client.pem"))
