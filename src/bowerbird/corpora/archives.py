"""Members of package archives (npm .tgz, Python .whl, Debian .deb), extracted without trusting the archive.

Nothing of a package is executed. Names may not be absolute or climb out, links and devices are left out and never
followed, and sizes are counted on the bytes that really come out, so that a header cannot lie.
"""

from __future__ import annotations

import dataclasses
import errno
import fnmatch
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from bowerbird.errors import ArchiveRefused, PackageUnavailable

_CHUNK = 1 << 20
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60  # bytes: name 16, time 12, owner 6, group 6, mode 8, size 10, magic 2
_ARCHIVES_FAULTS = (errno.EINVAL, errno.ENAMETOOLONG)  # an offset before the start, a name that no file can have

Stream = IO[bytes] | gzip.GzipFile | io.BufferedReader
Members = Iterator[tuple[str, IO[bytes] | None]]  # the stream is None for directories, links and devices


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much an archive may unpack to.

    Attributes:
        member_bytes: largest single member.
        total_bytes: all that is decompressed, wanted or not.
        members: entries of the archive, wanted or not.
    """

    member_bytes: int = 128 << 20  # the largest real one, a set of gradient emoji, has 104 MB
    total_bytes: int = 1 << 30  # the largest real archive unpacks to 230 MB
    members: int = 50_000


DEFAULT_LIMITS = Limits()


def extract(archive: Path, globs: Sequence[str], target: Path, *, limits: Limits = DEFAULT_LIMITS) -> dict[str, int]:
    """Size in bytes of each member that was written below `target`, by its name in the archive.

    Args:
        archive: a .tgz, .whl or .deb file.
        globs: patterns of wanted members, matched on the whole name; `*` also matches slashes.
        target: directory to write to; exists.
        limits: bounds against decompression bombs.
    Raises:
        ArchiveRefused: damaged, of an unknown kind, with a name that leaves the target, or beyond a limit.
        PackageUnavailable: a .deb needs the zstandard package, which is not installed.
    """
    readers = {".tgz": _walk_tgz, ".whl": _walk_zip, ".deb": _walk_deb}
    reader = readers.get(archive.suffix)
    if reader is None:
        raise ArchiveRefused(f"expected an archive of kind {', '.join(readers)}, got {archive.name}")
    written: dict[str, int] = {}
    try:
        for count, (name, stream) in enumerate(reader(archive, limits), start=1):
            if count > limits.members:
                raise ArchiveRefused(f"{archive.name}: more than {limits.members} members; not unpacked any further")
            safe = _safe_name(archive, name)
            if stream is not None and any(fnmatch.fnmatchcase(safe, glob) for glob in globs):
                written[safe] = _write(archive, safe, stream, target / safe, limits)
    except _damage_errors() as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno not in _ARCHIVES_FAULTS:
            raise
        raise _damaged(archive, error) from error
    return written


def _damaged(archive: Path, error: Exception) -> ArchiveRefused:
    return ArchiveRefused(f"{archive.name}: damaged archive ({error}); delete it and fetch again")


def _damage_errors() -> tuple[type[Exception], ...]:
    """What the readers raise on damaged input."""
    of_zipfile = (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, IndexError)
    errors = (*of_zipfile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, gzip.BadGzipFile)
    try:
        import zstandard
    except ModuleNotFoundError:
        return errors
    return (*errors, zstandard.ZstdError)


def _safe_name(archive: Path, name: str) -> str:
    """`name` in normal form; Raises ArchiveRefused if it would lie outside the target."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or ":" in name.split("/")[0]:
        raise ArchiveRefused(f"{archive.name}: member {name!r} points outside the archive; nothing of it is used")
    return str(path)


def _write(archive: Path, name: str, stream: IO[bytes], path: Path, limits: Limits) -> int:
    size = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            while chunk := stream.read(_CHUNK):
                size += len(chunk)
                if size > limits.member_bytes:
                    raise ArchiveRefused(f"{archive.name}: {name} unpacks to more than {limits.member_bytes} bytes")
                file.write(chunk)
    except (FileExistsError, NotADirectoryError) as error:
        raise ArchiveRefused(f"{archive.name}: member {name} occurs twice, or as file and as directory") from error
    return size


class _Bounded(io.RawIOBase):
    """Reads `stream`, at most `limit` bytes; more is taken for a decompression bomb."""

    def __init__(self, stream: Stream, limit: int, name: str) -> None:
        self._stream, self._left, self._limit, self._name = stream, limit, limit, name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        chunk = self._stream.read(len(buffer))
        self._left -= len(chunk)
        if self._left < 0:
            raise ArchiveRefused(f"{self._name}: unpacks to more than {self._limit} bytes; looks like a bomb")
        buffer[: len(chunk)] = chunk
        return len(chunk)


class _Slice(io.RawIOBase):
    """`size` bytes of `file` from its current position on."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        chunk = self._file.read(min(len(buffer), self._left))
        self._left -= len(chunk)
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _walk_tgz(archive: Path, limits: Limits) -> Members:
    with gzip.open(archive) as stream:
        yield from _walk_tar(archive, stream, limits)


def _walk_tar(archive: Path, stream: Stream, limits: Limits) -> Members:
    bounded = io.BufferedReader(_Bounded(stream, limits.total_bytes, archive.name), _CHUNK)
    with tarfile.open(fileobj=bounded, mode="r|") as tar:
        for member in tar:
            if member.issparse():  # its holes are not in the archive, so they would escape the limit
                raise ArchiveRefused(f"{archive.name}: member {member.name} is a sparse file; nothing of it is used")
            if member.isreg():
                yield member.name, tar.extractfile(member)
            elif PurePosixPath(member.name).parts:  # the root directory "./" has no name to check
                yield member.name, None


def _walk_zip(archive: Path, limits: Limits) -> Members:
    total = 0
    with zipfile.ZipFile(archive) as wheel:
        for info in wheel.infolist():
            total += info.file_size  # zipfile never reads past the size that the directory declares
            if total > limits.total_bytes:
                raise ArchiveRefused(f"{archive.name}: unpacks to more than {limits.total_bytes} bytes")
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir() or kind not in (0, stat.S_IFREG):
                yield info.filename, None
                continue
            if info.flag_bits & 1:
                raise ArchiveRefused(f"{archive.name}: member {info.filename} is encrypted")
            with wheel.open(info) as stream:
                yield info.filename, stream


def _walk_deb(archive: Path, limits: Limits) -> Members:
    with archive.open("rb") as file, _open_data_tar(archive, file) as stream:
        yield from _walk_tar(archive, stream, limits)


@contextmanager
def _open_data_tar(archive: Path, file: IO[bytes]) -> Iterator[Stream]:
    """Decompressed `data.tar.*` of a .deb, which is an `ar` archive: 60-byte headers, data padded to even length."""
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise ArchiveRefused(f"{archive.name}: not a Debian package; delete it and fetch again")
    while len(header := file.read(_AR_HEADER)) == _AR_HEADER:
        name = header[:16].decode("ascii", "replace").strip().rstrip("/")
        size_text = header[48:58].strip()
        if header[58:] != b"`\n" or not size_text.isdigit():
            break
        size = int(size_text)
        if name.startswith("data.tar"):
            with _decompress(archive, name, io.BufferedReader(_Slice(file, size), _CHUNK)) as stream:
                yield stream
            return
        file.seek(size + size % 2, io.SEEK_CUR)
    raise ArchiveRefused(f"{archive.name}: damaged Debian package, no data.tar in it; delete it and fetch again")


def _decompress(archive: Path, name: str, stream: io.BufferedReader) -> Stream:
    match PurePosixPath(name).suffix:
        case ".xz":
            return lzma.open(stream)
        case ".gz":
            return gzip.open(stream)
        case ".tar":
            return stream
        case ".zst":
            try:
                import zstandard
            except ModuleNotFoundError as error:
                raise PackageUnavailable(
                    f"{archive.name} is zstd-compressed: pip install 'bowerbird[corpora]' (package zstandard)"
                ) from error
            reader: IO[bytes] = zstandard.ZstdDecompressor().stream_reader(stream)
            return reader
    raise ArchiveRefused(f"{archive.name}: {name} is compressed in a way we do not read")
