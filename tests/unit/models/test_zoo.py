"""The zoo gives out only what a card vouches for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bowerbird.errors import ConfigInvalid, ModelFileCorrupt, ModelNotFound
from bowerbird.models import ModelsConfig, zoo
from bowerbird.models.loading import load_model, start_engine

CONTENT = b"a model"
CARD = f"""
kind = "embedder"
sha256 = "{hashlib.sha256(CONTENT).hexdigest()}"
licence = "Apache-2.0"
attribution = "somebody"
[source]
package = "pypi something"
version = "1.0"
[input]
width = 8
height = 6
channel_order = "rgb"
mean = [1.0, 2.0, 3.0]
std = [4.0, 5.0, 6.0]
[embedder]
dimension = 64
code_bits = 64
"""


def write_zoo(folder: Path, card: str = CARD, content: bytes | None = CONTENT) -> Path:
    (folder / "tiny.toml").write_text(card)
    if content is not None:
        (folder / "tiny.onnx").write_bytes(content)
    return folder


def test_a_card_is_read_whole(tmp_path: Path) -> None:
    """What the card says comes out typed."""
    model = zoo.load("tiny", zoo_dir=write_zoo(tmp_path))

    assert (model.kind, model.licence, model.source) == ("embedder", "Apache-2.0", "pypi something 1.0")
    assert model.input == zoo.InputSpec(8, 6, "rgb", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    assert model.embedder == zoo.EmbedderSpec(64, 64)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "nanodet-g"])
def test_every_shipped_model_is_vouched_for(name: str) -> None:
    """Shipped files have the sha256, licence and page that belong to them, and stay small."""
    model = zoo.load(name)

    assert model.licence and model.attribution and model.source
    assert model.path.stat().st_size <= 12 * 2**20
    assert model.path.with_suffix(".md").is_file()


@pytest.mark.parametrize("name", ["absent", "", "../tiny", "TINY", "/etc/passwd"])
def test_an_unknown_name_is_refused(tmp_path: Path, name: str) -> None:
    """A name that is no card of the directory is not found, and the known ones are listed."""
    with pytest.raises(ModelNotFound, match="known: tiny"):
        zoo.load(name, zoo_dir=write_zoo(tmp_path))


def test_a_changed_file_is_refused_by_name(tmp_path: Path) -> None:
    """One changed byte is enough, and the message names the file."""
    with pytest.raises(ModelFileCorrupt, match=r"tiny\.onnx has sha256"):
        zoo.load("tiny", zoo_dir=write_zoo(tmp_path, content=b"A model"))


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    """A card without its file is a damaged zoo, not an unknown model."""
    with pytest.raises(ModelFileCorrupt, match=r"tiny\.onnx cannot be read"):
        zoo.load("tiny", zoo_dir=write_zoo(tmp_path, content=None))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('kind = "embedder"', 'kind = "oracle"'),
        ('licence = "Apache-2.0"', 'licence = ""'),
        ('licence = "Apache-2.0"', ""),
        ("[embedder]", "[other]"),
        ("mean = [1.0, 2.0, 3.0]", "mean = [1.0, 2.0]"),
        ("std = [4.0, 5.0, 6.0]", "std = [4.0, 0.0, 6.0]"),
        ('channel_order = "rgb"', 'channel_order = "grb"'),
        ("width = 8", "width = 0"),
        ("[source]", "[source"),
    ],
)
def test_a_card_that_lacks_something_is_refused_by_name(tmp_path: Path, old: str, new: str) -> None:
    """A card is used whole or not at all."""
    with pytest.raises(ModelFileCorrupt, match=r"tiny\.toml cannot be used"):
        zoo.load("tiny", zoo_dir=write_zoo(tmp_path, card=CARD.replace(old, new)))


def test_the_zoo_is_found_by_argument_variable_and_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument wins over the variable, the variable over what is shipped."""
    monkeypatch.delenv(zoo.ZOO_VARIABLE, raising=False)
    shipped = zoo.find_zoo()
    monkeypatch.setenv(zoo.ZOO_VARIABLE, str(tmp_path / "variable"))

    assert (shipped / "efficientnet-lite0.toml").is_file()
    assert zoo.find_zoo() == tmp_path / "variable"
    assert zoo.find_zoo(tmp_path) == tmp_path


def test_a_model_of_another_kind_is_refused() -> None:
    """A service starts only with a model of its kind."""
    with pytest.raises(ConfigInvalid, match="kind detector"):
        load_model("efficientnet-lite0", "detector", ModelsConfig())


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("efficientnet-lite0", "dimension = 1280", "dimension = 1024"),
        ("efficientnet-lite0", "code_bits = 256", "code_bits = 128"),
        ("nanodet-g", "strides = [8, 16, 32]", "strides = [8, 16]"),
        ("nanodet-g", "bins = 11", "bins = 8"),
        ("nanodet-g", '"hair drier", ', ""),
        ("nanodet-g", "strides = [8, 16, 32]", "strides = [0]"),
        ("nanodet-g", "min_score = 0.4", "min_score = nan"),
        ("nanodet-g", "max_iou = 0.5", "max_iou = 5.0"),
    ],
)
def test_a_card_that_does_not_fit_its_model_is_refused_at_start(tmp_path: Path, name: str, old: str, new: str) -> None:
    """What would fail every call, or answer it wrongly, ends the start with the name of the model's file."""
    card = (zoo.find_zoo() / f"{name}.toml").read_text()
    assert old in card
    (tmp_path / f"{name}.toml").write_text(card.replace(old, new))
    (tmp_path / f"{name}.onnx").symlink_to(zoo.find_zoo() / f"{name}.onnx")
    with pytest.raises(ModelFileCorrupt, match=name):
        start_engine(zoo.load(name, zoo_dir=tmp_path), ModelsConfig(), threads=1)
