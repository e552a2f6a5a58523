"""Page tokens: opaque, signed, bound to the request they continue.

A token names the last item of the page before it, so a page is right whatever was written in between.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from bowerbird.errors import PageTokenInvalid

from .disk import sync_directory
from .fields import FieldValue
from .filters import Filter
from .items import Item

_KEY_BYTES = 32
_MAC_BYTES = 16
_MAX_PAGE_BYTES = 8 * 1024 * 1024  # half of the message limit: the estimate below need not be exact
_VALUE_BYTES = 24  # of a number on the wire, and of what surrounds any value


def load_key(path: Path) -> bytes:
    """The signing key in `path`, made on first use: tokens stay good over a restart."""
    if path.exists():
        key = path.read_bytes()
        if len(key) == _KEY_BYTES:
            return key
    key = secrets.token_bytes(_KEY_BYTES)
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_directory(path.parent)
    return key


def sign(key: bytes, uid: str, wanted: Filter | None, last_id: str) -> str:
    """The token of the page after `last_id`, for this index and filter."""
    payload = last_id.encode()
    return base64.urlsafe_b64encode(_mac(key, uid, wanted, payload) + payload).decode()


def verify(key: bytes, uid: str, wanted: Filter | None, token: str) -> str:
    """The id that the page comes after.

    Raises:
        PageTokenInvalid: not signed by this server, or for another index or filter.
    """
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise _invalid() from error
    given, payload = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    if not hmac.compare_digest(given, _mac(key, uid, wanted, payload)):
        raise _invalid()
    return payload.decode()


def _mac(key: bytes, uid: str, wanted: Filter | None, payload: bytes) -> bytes:
    request = hashlib.sha256(f"{uid}\0{wanted!r}\0".encode("utf-8", "backslashreplace")).digest()
    return hmac.digest(key, request + payload, "sha256")[:_MAC_BYTES]


def _invalid() -> PageTokenInvalid:
    return PageTokenInvalid(
        "page_token: expected the next_page_token of a reply to the same index and filter; begin without one",
        field="page_token",
    )


def count_fitting(items: Sequence[Item], most: int) -> int:
    """How many of the first `most` items fit one message; at least one, if there are any."""
    size_bytes = 0
    for count, item in enumerate(items[:most]):
        size_bytes += len(item.item_id.encode()) + sum(map(_estimate_bytes, item.fields.items()))
        if size_bytes > _MAX_PAGE_BYTES and count:
            return count
    return min(most, len(items))


def _estimate_bytes(field: tuple[str, FieldValue]) -> int:
    name, value = field
    return _VALUE_BYTES + len(name.encode()) + (len(value.encode()) if isinstance(value, str) else 0)
