"""Files inside a Qt resource bundle (`.rcc`), read without Qt.

Layout, all numbers big-endian: header `qres`, version, offsets of tree, data and names, and from version 3 on flags.
A tree node has a name offset and flags; then a directory has the count and the first index of its children, and a file
has territory, language and a data offset; from version 2 on a time stamp follows. A name is its length, a hash and
UTF-16 text; data are their length and bytes, which may be compressed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from bowerbird.errors import ArchiveRefused, PackageUnavailable

_ZLIB, _DIRECTORY, _ZSTD = 1, 2, 4  # flags of a node
_MAX_FILE_BYTES = 64 << 20
_MAX_NODES = 100_000
_MAX_DEPTH = 32


def read_files(bundle: bytes) -> Iterator[tuple[str, bytes]]:
    """Path and content of each file of a bundle, in tree order.

    Raises:
        ArchiveRefused: not a bundle, damaged, or a file unpacks to more than 64 MiB.
        PackageUnavailable: the bundle needs the zstandard package, which is not installed.
    """
    try:
        yield from _Bundle(bundle).files()
    except (struct.error, UnicodeDecodeError, zlib.error) as error:
        raise ArchiveRefused(f"expected a Qt resource bundle, got damaged bytes: {error}; fetch it again") from error


class _Bundle:
    def __init__(self, content: bytes) -> None:
        if content[:4] != b"qres":
            raise ArchiveRefused(f"expected a Qt resource bundle, which starts with b'qres', got {content[:4]!r}")
        self._content = content
        version, self._tree, self._data, self._names = struct.unpack_from(">IIII", content, 4)
        self._node_bytes = 14 if version == 1 else 22
        self._nodes_left = _MAX_NODES

    def files(self, index: int = 0, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, bytes]]:
        self._nodes_left -= 1
        if depth > _MAX_DEPTH or self._nodes_left < 0:
            raise ArchiveRefused("Qt resource bundle: its tree is too deep or too large, or runs in a circle")
        offset = self._tree + index * self._node_bytes
        name_offset, flags = struct.unpack_from(">IH", self._content, offset)
        path = f"{prefix}/{self._name(name_offset)}".lstrip("/") if depth else ""
        if flags & _DIRECTORY:
            count, first = struct.unpack_from(">II", self._content, offset + 6)
            for child in range(first, first + count):
                yield from self.files(child, path, depth + 1)
        else:
            (data_offset,) = struct.unpack_from(">I", self._content, offset + 10)
            yield path, self._read(data_offset, flags)

    def _name(self, offset: int) -> str:
        start = self._names + offset
        (length,) = struct.unpack_from(">H", self._content, start)
        return self._content[start + 6 : start + 6 + 2 * length].decode("utf-16-be")

    def _read(self, offset: int, flags: int) -> bytes:
        start = self._data + offset
        (length,) = struct.unpack_from(">I", self._content, start)
        raw = self._content[start + 4 : start + 4 + length]
        if flags & _ZLIB:  # Qt puts the unpacked size before the zlib stream
            inflater = zlib.decompressobj()
            content, rest = inflater.decompress(raw[4:], _MAX_FILE_BYTES), inflater.unconsumed_tail
        elif flags & _ZSTD:
            content, rest = _decompress_zstd(raw), b""
        else:
            content, rest = raw, b""
        if rest or len(content) > _MAX_FILE_BYTES:
            raise ArchiveRefused(f"Qt resource bundle: a file unpacks to more than {_MAX_FILE_BYTES} bytes")
        return content


def _decompress_zstd(raw: bytes) -> bytes:
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise PackageUnavailable(
            "this Qt resource bundle is zstd-compressed: pip install 'bowerbird[corpora]' (package zstandard)"
        ) from error
    try:
        with zstandard.ZstdDecompressor().stream_reader(raw) as stream:
            content: bytes = stream.read(_MAX_FILE_BYTES + 1)
    except zstandard.ZstdError as error:
        raise ArchiveRefused(f"Qt resource bundle: damaged zstd data: {error}; fetch it again") from error
    return content
