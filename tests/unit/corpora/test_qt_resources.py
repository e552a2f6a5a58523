import struct

import pytest

from bowerbird.corpora.qt_resources import read_files
from bowerbird.errors import ArchiveRefused
from tests.golden.corpora.make import make_rcc

FILES = {"cow.webp": b"moo" * 100, "pig.webp": b""}


@pytest.mark.parametrize("compress", ["", "zlib", "zstd"])
def test_read_files_gives_paths_and_contents(compress: str) -> None:
    """Files come out as they went in, however the bundle compresses them."""
    assert dict(read_files(make_rcc(FILES, compress=compress))) == {f"a/{name}": data for name, data in FILES.items()}


@pytest.mark.parametrize("bundle", [b"", b"qres", b"PK\x03\x04" + bytes(40), make_rcc(FILES)[:60]])
def test_read_files_refuses_damaged_bundles(bundle: bytes) -> None:
    """What is not a whole bundle is refused."""
    with pytest.raises(ArchiveRefused):
        dict(read_files(bundle))


def test_read_files_refuses_a_tree_that_runs_in_a_circle() -> None:
    """A directory that is its own child ends in an error, not in endless recursion."""
    root = struct.pack(">IHIIQ", 0, 2, 1, 0, 0)
    names = struct.pack(">HI", 1, 0) + "a".encode("utf-16-be")
    bundle = b"qres" + struct.pack(">IIII", 2, 20, 20 + len(root), 20 + len(root)) + root + names
    with pytest.raises(ArchiveRefused, match="circle"):
        dict(read_files(bundle))


def test_read_files_refuses_a_file_that_unpacks_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both compressions stop at the size limit."""
    monkeypatch.setattr("bowerbird.corpora.qt_resources._MAX_FILE_BYTES", 1000)
    for compress in ("zlib", "zstd"):
        with pytest.raises(ArchiveRefused, match="more than 1000 bytes"):
            dict(read_files(make_rcc({"big": bytes(2000)}, compress=compress)))
