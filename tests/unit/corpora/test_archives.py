import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard

from bowerbird.corpora.archives import Limits, extract
from bowerbird.errors import ArchiveRefused
from tests.golden.corpora.make import make_deb, make_npm, make_tar, make_wheel

FILES = {"package/a/one.json": b"1", "package/two.txt": b"22", "package/run.js": b"evil()"}


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def target(tmp_path: Path) -> Path:
    directory = tmp_path / "out"
    directory.mkdir()
    return directory


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.tgz", make_npm(FILES)),
        ("p.whl", make_wheel(FILES)),
        ("p.deb", make_deb(FILES)),
        ("p.deb", make_deb({}, data_name="data.tar.gz", data=gzip.compress(make_tar(FILES)))),
        ("p.deb", make_deb({}, data_name="data.tar.zst", data=zstandard.compress(make_tar(FILES)))),
        ("p.deb", make_deb({}, data_name="data.tar", data=make_tar(FILES))),
    ],
    ids=["npm", "wheel", "deb-xz", "deb-gz", "deb-zst", "deb-plain"],
)
def test_extract_writes_the_wanted_members_alone(tmp_path: Path, name: str, content: bytes) -> None:
    """Of every kind of archive, only members that match a glob come out, with their sizes."""
    out = target(tmp_path)
    written = extract(write(tmp_path / name, content), ["package/*.json", "package/two*"], out)

    assert written == {"package/a/one.json": 1, "package/two.txt": 2}
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == ["one.json", "two.txt"]
    assert (out / "package/two.txt").read_bytes() == b"22"


@pytest.mark.parametrize("evil", ["../evil", "package/../../evil", "/tmp/evil", "a\\..\\evil", "C:/evil"])
@pytest.mark.parametrize("kind", ["tgz", "whl", "deb"])
def test_extract_refuses_names_that_leave_the_target(tmp_path: Path, kind: str, evil: str) -> None:
    """An archive with a name that climbs out or is absolute is refused, even where no glob asks for it."""
    out = target(tmp_path)
    make = {
        "tgz": make_npm,
        "whl": make_wheel,
        "deb": lambda files: make_deb({}, data_name="data.tar", data=make_tar(files)),
    }
    archive = write(tmp_path / f"p.{kind}", make[kind]({evil: b"x"}))
    with pytest.raises(ArchiveRefused, match="outside"):
        extract(archive, ["nothing"], out)

    assert not list(out.rglob("*"))
    assert not (tmp_path / "evil").exists()


def test_extract_leaves_links_out_and_never_writes_through_them(tmp_path: Path) -> None:
    """A symbolic link is not made, so a member below its name lands inside the target."""
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = write(tmp_path / "p.tgz", make_npm({"package/link/x": b"x"}, links={"package/link": str(outside)}))
    out = target(tmp_path)
    written = extract(archive, ["*"], out)

    assert written == {"package/link/x": 1}
    assert not list(outside.iterdir())
    assert not (out / "package/link").is_symlink()


def test_extract_leaves_links_of_wheels_out(tmp_path: Path) -> None:
    """A wheel member that is marked as a symbolic link is not extracted."""
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "p.whl", "w") as wheel:
        wheel.writestr(info, "/etc/passwd")
    assert extract(tmp_path / "p.whl", ["*"], target(tmp_path)) == {}


@pytest.mark.parametrize("kind", ["tgz", "whl", "deb"])
def test_extract_stops_at_the_member_limit(tmp_path: Path, kind: str) -> None:
    """A wanted member that unpacks to more than its limit is refused."""
    make = {"tgz": make_npm, "whl": make_wheel, "deb": make_deb}[kind]
    archive = write(tmp_path / f"p.{kind}", make({"big": bytes(100_000)}))
    with pytest.raises(ArchiveRefused, match="more than 5000 bytes"):
        extract(archive, ["big"], target(tmp_path), limits=Limits(member_bytes=5000))


@pytest.mark.parametrize("kind", ["tgz", "whl", "deb"])
def test_extract_stops_at_the_total_limit_of_members_that_nobody_wants(tmp_path: Path, kind: str) -> None:
    """A bomb that hides in an unwanted member is refused while it unpacks."""
    make = {"tgz": make_npm, "whl": make_wheel, "deb": make_deb}[kind]
    archive = write(tmp_path / f"p.{kind}", make({"bomb": bytes(8 << 20), "small": b"x"}))
    assert archive.stat().st_size < 100_000
    with pytest.raises(ArchiveRefused, match="unpacks to more than"):
        extract(archive, ["small"], target(tmp_path), limits=Limits(total_bytes=1 << 20))


def test_extract_refuses_sparse_files(tmp_path: Path) -> None:
    """A member whose holes are not in the archive, so that no limit on what is read can see them, is refused."""
    member = tarfile.TarInfo("bomb")
    member.type, member.size = tarfile.GNUTYPE_SPARSE, 512
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"%011o\0%011o\0" % (0, 512)  # the only stretch with data
    header[483:495] = b"%011o\0" % (100 << 20)  # the size with its holes
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * ord(" ") + sum(header[156:]))
    archive = write(tmp_path / "p.tgz", gzip.compress(bytes(header) + bytes(512 + 1024)))
    out = target(tmp_path)
    with pytest.raises(ArchiveRefused, match="bomb is a sparse file"):
        extract(archive, ["*"], out, limits=Limits(total_bytes=1 << 20))

    assert not list(out.rglob("*"))


def test_extract_stops_at_the_number_of_members(tmp_path: Path) -> None:
    """More entries than allowed are refused."""
    archive = write(tmp_path / "p.tgz", make_npm({f"f{number}": b"" for number in range(11)}))
    with pytest.raises(ArchiveRefused, match="more than 10 members"):
        extract(archive, ["*"], target(tmp_path), limits=Limits(members=10))


def test_extract_refuses_a_wheel_that_lies_about_its_sizes(tmp_path: Path) -> None:
    """A wheel whose directory declares fewer bytes than a member has does not write more than declared."""
    content = make_wheel({"big": bytes(50_000)})
    at = content.index(b"PK\x01\x02")
    lying = content[: at + 24] + struct.pack("<I", 10) + content[at + 28 :]
    out = target(tmp_path)
    with pytest.raises(ArchiveRefused, match="damaged"):
        extract(write(tmp_path / "p.whl", lying), ["big"], out)

    assert (out / "big").stat().st_size <= 10


@pytest.mark.parametrize("kind", ["tgz", "whl", "deb"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_extract_refuses_a_cut_archive(tmp_path: Path, kind: str, part: float) -> None:
    """An archive of which the end is missing is refused as damaged."""
    make = {"tgz": make_npm, "whl": make_wheel, "deb": make_deb}[kind]
    whole = make({f"f{number}": bytes(range(256)) * 9 for number in range(9)})
    archive = write(tmp_path / f"p.{kind}", whole[: int(len(whole) * part)])
    with pytest.raises(ArchiveRefused, match="damaged"):
        extract(archive, ["*"], target(tmp_path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.deb", b"not a package"),
        ("p.deb", b"!<arch>\n" + b"x" * 60),
        ("p.deb", make_deb({}, data_name="data.tar.bz3", data=b"x")),
        ("p.deb", make_deb({}, data_name="data.tar.zst", data=b"not zstandard")),
        ("p.tgz", b"not gzip"),
        ("p.whl", b"not zip"),
        ("p.rar", b"unknown kind"),
    ],
)
def test_extract_refuses_what_is_not_an_archive(tmp_path: Path, name: str, content: bytes) -> None:
    """Bytes of another kind are refused, naming the file."""
    with pytest.raises(ArchiveRefused, match=name):
        extract(write(tmp_path / name, content), ["*"], target(tmp_path))


@pytest.mark.parametrize(
    ("record", "at", "value"),
    [
        (b"PK\x01\x02", 6, b"\xff\x00"),
        (b"PK\x01\x02", 10, b"\x63\x00"),
        (b"PK\x01\x02", 8, b"\x40\x00"),
        (b"PK\x01\x02", 46, b"\xff"),
        (b"PK\x05\x06", 12, b"\xff\xff\xff\x7f"),
        (b"PK\x05\x06", 16, b"\xff\xff\xff\x7f"),
    ],
    ids=["version", "compression", "encryption", "name", "directory-size", "directory-offset"],
)
def test_extract_refuses_a_wheel_with_a_damaged_directory(tmp_path: Path, record: bytes, at: int, value: bytes) -> None:
    """Whatever the reader of wheels says of a damaged directory is a refusal, and stops no other source."""
    content = make_wheel({"\u00fcber": b"x"})
    start = content.index(record) + at
    damaged = content[:start] + value + content[start + len(value) :]
    with pytest.raises(ArchiveRefused, match="damaged"):
        extract(write(tmp_path / "p.whl", damaged), ["*"], target(tmp_path))


@pytest.mark.parametrize("kind", ["tgz", "whl", "deb"])
def test_extract_refuses_a_name_that_no_file_can_have(tmp_path: Path, kind: str) -> None:
    """A name that is too long for a file is the archive's fault, not the disk's."""
    make = {"tgz": make_npm, "whl": make_wheel, "deb": make_deb}[kind]
    with pytest.raises(ArchiveRefused, match="damaged"):
        extract(write(tmp_path / f"p.{kind}", make({"x" * 300: b"x"})), ["*"], target(tmp_path))


def test_extract_refuses_a_member_that_occurs_twice(tmp_path: Path) -> None:
    """Two members of one name are refused, since a check of one says nothing of the other."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for content in (b"checked", b"used"):
            info = tarfile.TarInfo("x")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with pytest.raises(ArchiveRefused, match="twice"):
        extract(write(tmp_path / "p.tgz", gzip.compress(buffer.getvalue())), ["*"], target(tmp_path))
