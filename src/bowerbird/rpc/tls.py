"""TLS and mutual TLS of a server, with certificates that may change while it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import grpc

from bowerbird import telemetry
from bowerbird.errors import ConfigInvalid
from bowerbird.rpc.settings import UNSET, ServerConfig

_log = telemetry.get_logger("bowerbird.rpc.tls")


def server_credentials(config: ServerConfig) -> grpc.ServerCredentials:
    """Credentials of the files of the configuration; new connections see changed files.

    Raises:
        ConfigInvalid: a file cannot be read or is not PEM.
    """
    files = _CertificateFiles(config)
    return grpc.dynamic_ssl_server_credentials(
        files.read(),
        cast("Callable[[], grpc.ServerCertificateConfiguration]", files.read_if_changed),
        require_client_authentication=config.tls_client_ca != UNSET,
    )


class _CertificateFiles:
    """Reads the files again when one of them has another modification time."""

    def __init__(self, config: ServerConfig) -> None:
        self._cert, self._key, self._client_ca = config.tls_cert, config.tls_key, config.tls_client_ca
        self._seen: tuple[int, ...] = ()

    def _times(self) -> tuple[int, ...]:
        return tuple(path.stat().st_mtime_ns for path in (self._cert, self._key, self._client_ca) if path != UNSET)

    def read(self) -> grpc.ServerCertificateConfiguration:
        times = self._times()
        pair = (_read_pem(self._key, "tls_key"), _read_pem(self._cert, "tls_cert"))
        roots = _read_pem(self._client_ca, "tls_client_ca") if self._client_ca != UNSET else None
        configuration = grpc.ssl_server_certificate_configuration([pair], root_certificates=roots)
        self._seen = times  # files that could not be read are looked at again
        return configuration

    def read_if_changed(self) -> grpc.ServerCertificateConfiguration | None:
        """The new configuration, or None to stay with the old one; called for each connection."""
        try:
            if self._times() == self._seen:
                return None
            configuration = self.read()
        except (OSError, ConfigInvalid) as error:
            _log.error("certificate files cannot be read, the old ones stay: %s", error)
            return None
        _log.info("certificates read again")
        return configuration


def _read_pem(path: Path, name: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigInvalid(f"[server] {name}: cannot read {path}: {error.strerror}") from error
    if b"-----BEGIN " not in data:
        raise ConfigInvalid(f"[server] {name}: {path} is not a PEM file")
    return data
