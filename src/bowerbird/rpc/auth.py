"""Bearer tokens and their roles.

The file keeps hashes, so that reading it gives nobody access:

    [[tokens]]
    name = "shop-backend"   # for the log
    sha256 = "<64 hex digits: printf %s \"$TOKEN\" | sha256sum>"
    role = "read"           # read < write < admin
"""

from __future__ import annotations

import hashlib
import hmac
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bowerbird.errors import ConfigInvalid, PermissionDenied, Unauthenticated
from bowerbird.rpc.service import Role

RANKS: dict[str, int] = {"read": 0, "write": 1, "admin": 2}
HEADER = "authorization"
_KEYS = {"name", "sha256", "role"}


@dataclass(frozen=True)
class _Token:
    name: str
    digest: bytes
    rank: int


class Authoriser:
    """Decides whether a token may make a call."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens

    @classmethod
    def from_file(cls, path: Path) -> Authoriser:
        """The tokens of a TOML file.

        Raises:
            ConfigInvalid: the file cannot be read, holds no token, or an entry is malformed; the message names it.
        """
        try:
            content = tomllib.loads(path.read_text())
        except OSError as error:
            raise ConfigInvalid(f"cannot read tokens file {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigInvalid(f"tokens file {path} is not valid TOML: {error}") from error
        entries = content.get("tokens")
        if set(content) != {"tokens"} or not isinstance(entries, list) or not entries:
            raise ConfigInvalid(f"tokens file {path}: expected one or more [[tokens]] tables and nothing else")
        return cls([_parse(entry, f"{path}, token {number}") for number, entry in enumerate(entries, 1)])

    def check(self, header: str | None, role: Role, method: str) -> str:
        """The name of the token that allows the call.

        Every stored hash is compared in constant time, so that neither the time nor the number of steps tells a
        guesser how close it came.

        Raises:
            Unauthenticated: no `authorization: Bearer ...`, or an unknown token.
            PermissionDenied: the token's role is below the method's.
        """
        if not header or not header.startswith("Bearer "):
            raise Unauthenticated("expected metadata `authorization: Bearer <token>`, got none; send your token")
        digest = hashlib.sha256(header.removeprefix("Bearer ").strip().encode()).digest()
        matches = [token for token in self._tokens if hmac.compare_digest(token.digest, digest)]
        if not matches:
            raise Unauthenticated("the bearer token is not known to this server; ask its operator for one")
        if matches[0].rank < RANKS[role]:
            raise PermissionDenied(f"{method} needs the role {role}, which token {matches[0].name!r} does not carry")
        return matches[0].name


def _parse(entry: Any, where: str) -> _Token:
    if not isinstance(entry, dict) or set(entry) != _KEYS:
        raise ConfigInvalid(f"{where}: expected the keys {', '.join(sorted(_KEYS))}")
    name, sha256, role = entry["name"], entry["sha256"], entry["role"]
    if not isinstance(name, str) or not name:
        raise ConfigInvalid(f"{where}: name must be a text that is not empty")
    if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ConfigInvalid(f"{where} ({name}): sha256 must have 64 hex digits; it is the hash, not the token")
    if role not in RANKS:
        raise ConfigInvalid(f"{where} ({name}): role must be read, write or admin, got {role!r}")
    return _Token(name, bytes.fromhex(sha256), RANKS[role])
