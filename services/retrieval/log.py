"""Check of a SQLite write-ahead log before SQLite reads it.

SQLite stops reading its log at the first frame that fails its checksum, as it must for the torn end of a crash.
Damage in the middle looks the same to it, and would silently drop writes that were acknowledged. This tells the two
apart: a transaction is synced before the next one begins, so at most one transaction can be torn; two or more
commits of this log behind a broken frame mean that acknowledged writes were damaged.

Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import functools
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bowerbird.errors import StoreCorrupt

_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
_MAGIC_LITTLE, _MAGIC_BIG = 0x377F0682, 0x377F0683


def check_log(database: Path) -> None:
    """Nothing, if the log beside `database` is whole or merely torn at its end.

    Raises:
        StoreCorrupt: acknowledged writes in the log are damaged; the file is named.
    """
    path = database.with_name(database.name + "-wal")
    if not path.exists() or path.stat().st_size < _HEADER_BYTES + _FRAME_HEADER_BYTES:
        return
    data = np.memmap(path, np.uint8, "r")
    if not data[:_HEADER_BYTES].any():
        return  # created, and nothing in it was ever synced
    magic, _, page_bytes, _, salt_1, salt_2, sum_1, sum_2 = struct.unpack(">8I", bytes(data[:_HEADER_BYTES]))
    commits = _commits(data, page_bytes, (salt_1, salt_2)) if 512 <= page_bytes <= 65536 else []
    order = {_MAGIC_LITTLE: "<u4", _MAGIC_BIG: ">u4"}.get(magic)
    if order is None or _checksum(data[:24], order, (0, 0)) != (sum_1, sum_2):
        raise StoreCorrupt(f"{path}: the header of the write-ahead log is damaged; restore a snapshot")
    running, frame_bytes = (sum_1, sum_2), _FRAME_HEADER_BYTES + page_bytes
    for start in range(_HEADER_BYTES, len(data) - frame_bytes + 1, frame_bytes):
        if bytes(data[start + 8 : start + 16]) != struct.pack(">2I", salt_1, salt_2):
            later = [commit for commit in commits if commit > start]
        else:
            running = _checksum(data[start : start + 8], order, running)
            running = _checksum(data[start + _FRAME_HEADER_BYTES : start + frame_bytes], order, running)
            if struct.unpack(">2I", bytes(data[start + 16 : start + 24])) == running:
                continue
            later = [commit for commit in commits if commit >= start]
        if len(later) > 1:
            raise StoreCorrupt(f"{path}: acknowledged writes at byte {start} are damaged; restore a snapshot")
        return


def _commits(data: npt.NDArray[np.uint8], page_bytes: int, salts: tuple[int, int]) -> list[int]:
    """Byte offsets of the frames that end a transaction of this generation of the log."""
    frame_bytes, salt = _FRAME_HEADER_BYTES + page_bytes, struct.pack(">2I", *salts)
    return [
        start
        for start in range(_HEADER_BYTES, len(data) - frame_bytes + 1, frame_bytes)
        if bytes(data[start + 8 : start + 16]) == salt and bytes(data[start + 4 : start + 8]) != b"\0\0\0\0"
    ]


def _checksum(data: npt.NDArray[np.uint8], order: str, start: tuple[int, int]) -> tuple[int, int]:
    """SQLite's running pair of sums over 8-byte steps: s0 += x0 + s1; s1 += x1 + s0, modulo 2**32."""
    words = np.frombuffer(bytes(data), order).astype(np.uint64)
    weights = _weights(len(words) // 2)
    total = weights[:, 2:] @ words + weights[:, :2] @ np.array(start, np.uint64)
    return int(total[0]) & 0xFFFFFFFF, int(total[1]) & 0xFFFFFFFF


@functools.lru_cache(maxsize=8)
def _weights(steps: int) -> npt.NDArray[np.uint64]:
    """(2, 2 + 2 steps) uint64, modulo 2**32: what each start value and each word adds to the two sums.

    One step is linear: s' = [[1, 1], [1, 2]] s + [[1, 0], [1, 1]] x; so n steps are a product of that matrix.
    """
    weights = np.empty((2, 2 + 2 * steps), np.uint64)
    power = [[1, 0], [0, 1]]
    for step in range(steps, 0, -1):
        (a, b), (c, d) = power
        weights[:, 2 * step : 2 * step + 2] = [[(a + b) & 0xFFFFFFFF, b], [(c + d) & 0xFFFFFFFF, d]]
        power = [[(a + b) & 0xFFFFFFFF, (a + 2 * b) & 0xFFFFFFFF], [(c + d) & 0xFFFFFFFF, (c + 2 * d) & 0xFFFFFFFF]]
    weights[:, :2] = power
    return weights
