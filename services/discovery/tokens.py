"""Tokens of pictures sent before, so that a crop of one is searched without sending it again."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from bowerbird.errors import ImageTokenExpired

TOKEN_BYTES = 16  # 128 random bits: a token cannot be guessed, and knowing it is the right to use the picture


@dataclass(frozen=True, slots=True)
class _Held:
    data: bytes
    until: float


class ImageTokens:
    """File bytes by token: the most recently used, for a limited time, bounded in bytes; safe for many threads."""

    def __init__(self, *, max_bytes: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            max_bytes: of all pictures held.
            ttl_s: seconds that a picture is held after its last use.
            clock: in seconds.
        """
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._lock = threading.Lock()
        self._held: OrderedDict[str, _Held] = OrderedDict()  # the least recently used first, so the first to expire
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of pictures held now."""
        return self._size_bytes

    def add(self, data: bytes) -> str:
        """A new token for these bytes, 32 hexadecimal digits."""
        token = secrets.token_hex(TOKEN_BYTES)
        with self._lock:
            self._put(token, data)
        return token

    def get(self, token: str) -> bytes:
        """The bytes behind a token, held for another `ttl_s` seconds.

        Raises:
            ImageTokenExpired: not a token we gave, or too old, or dropped for newer pictures.
        """
        with self._lock:
            self._drop_expired()
            held = self._held.get(token)
            if held is None:
                raise ImageTokenExpired(
                    "the picture behind this image_token is gone (or never was); send the picture again",
                    field="source.image_token",
                )
            self._remove(token)
            self._put(token, held.data)
        return held.data

    def _put(self, token: str, data: bytes) -> None:
        self._held[token] = _Held(data, self._clock() + self._ttl_s)
        self._size_bytes += len(data)
        self._drop_expired()
        while self._size_bytes > self._max_bytes:
            self._remove(next(iter(self._held)))

    def _drop_expired(self) -> None:
        now = self._clock()
        while self._held:
            token, held = next(iter(self._held.items()))
            if held.until > now:
                return
            self._remove(token)

    def _remove(self, token: str) -> None:
        self._size_bytes -= len(self._held.pop(token).data)
