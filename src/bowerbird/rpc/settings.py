"""Settings of a server process, section `[server]` of the configuration file, variables `BOWERBIRD_SERVER_...`."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, fields
from pathlib import Path

from bowerbird import telemetry
from bowerbird.errors import ConfigInvalid

ACCESS_LOGS = ("errors", "all", "off")
UNSET = Path()  # an empty path: the setting is off
_DAY_S = 86_400
_LIMITS = {
    "max_workers": 4096,
    "max_concurrent_rpcs": 2**20,
    "max_message_bytes": 2**31 - 1,  # the transport's own limits are numbers of 32 bits
    "connection_age_s": 20 * _DAY_S,  # likewise, in milliseconds
    "heartbeat_s": 3600,
}


@dataclass(frozen=True)
class ServerConfig:
    """How a server listens, defends itself, reports and stops.

    Attributes:
        host: address to listen on, gRPC and admin.
        port: of gRPC; 0: any free one.
        admin_port: of metrics and plain health over HTTP; 0: any free one, -1: none.
        max_workers: threads that answer calls; an idle one costs nothing, more than the work needs costs switches.
        max_concurrent_rpcs: calls taken at once, answered or waiting for a thread; more are shed.
        max_message_bytes: of one request or response; a picture has at most 8 MiB.
        drain_delay_s: seconds of normal service after SIGTERM, for load balancers to see that we are not ready.
        grace_s: seconds that calls under way then have to finish.
        connection_age_s: connections are renewed after about this many seconds, so that new replicas get a share.
        tls_cert: PEM file; with `tls_key` it turns TLS on. The files are read again when they change.
        tls_key: PEM file.
        tls_client_ca: PEM file; clients must then show a certificate that this authority signed.
        auth_tokens_file: TOML file of tokens and roles; every call must then carry a bearer token.
        reflection: whether tools may ask for the schema; with tokens, readers only.
        log_level: debug, info, warning or error.
        log_format: json or text.
        access_log: `errors` (failed calls), `all` or `off`.
        heartbeat_s: seconds between looks at the services' heartbeats.
    """

    host: str = "127.0.0.1"
    port: int = 50051
    admin_port: int = 9090
    max_workers: int = 32
    max_concurrent_rpcs: int = 256
    max_message_bytes: int = 16 * 2**20
    drain_delay_s: float = 5.0
    grace_s: float = 30.0
    connection_age_s: float = 600.0
    tls_cert: Path = UNSET
    tls_key: Path = UNSET
    tls_client_ca: Path = UNSET
    auth_tokens_file: Path = UNSET
    reflection: bool = True
    log_level: str = "info"
    log_format: str = "json"
    access_log: str = "errors"
    heartbeat_s: float = 1.0

    def __post_init__(self) -> None:
        _require(0 <= self.port < 65536, "port", "0 to 65535", self.port)
        _require(-1 <= self.admin_port < 65536, "admin_port", "-1 to 65535", self.admin_port)
        for name, limit in _LIMITS.items():
            _require(0 < getattr(self, name) <= limit, name, f"more than 0 and at most {limit}", getattr(self, name))
        for name in ("drain_delay_s", "grace_s"):
            _require(0 <= getattr(self, name) <= 3600, name, "0 to 3600 seconds", getattr(self, name))
        _require(self.log_level in telemetry.LEVELS, "log_level", " or ".join(telemetry.LEVELS), self.log_level)
        _require(self.log_format in telemetry.FORMATS, "log_format", " or ".join(telemetry.FORMATS), self.log_format)
        _require(self.access_log in ACCESS_LOGS, "access_log", " or ".join(ACCESS_LOGS), self.access_log)
        _require(bool(self.host), "host", "an address", self.host)
        _require((self.tls_cert == UNSET) == (self.tls_key == UNSET), "tls_key", "both of tls_cert and tls_key", "one")
        if self.tls_client_ca != UNSET:
            _require(self.has_tls, "tls_client_ca", "tls_cert and tls_key with it", "none")
        for field in fields(self):
            path = getattr(self, field.name)
            if isinstance(path, Path) and path != UNSET:
                _require(path.is_file(), field.name, "a file that exists", path)

    @property
    def has_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.tls_cert != UNSET

    @property
    def defences(self) -> dict[str, str]:
        """What protects the port, for the log: a variable that came out empty must not turn it off unseen."""
        tls = "off" if not self.has_tls else "on" if self.tls_client_ca == UNSET else "mutual"
        return {"tls": tls, "tokens": "off" if self.auth_tokens_file == UNSET else "on"}

    def address(self, port: int) -> str:
        """`host:port` as gRPC wants it, IPv6 in brackets."""
        try:
            is_v6 = ipaddress.ip_address(self.host).version == 6
        except ValueError:
            is_v6 = False  # a name
        return f"[{self.host}]:{port}" if is_v6 else f"{self.host}:{port}"


def _require(holds: bool, name: str, expected: str, got: object) -> None:
    if not holds:
        raise ConfigInvalid(f"[server] {name}: expected {expected}, got {got}")
