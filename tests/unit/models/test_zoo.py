"""The zoo gives out only what a card vouches for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from bowerbird.errors import ConfigInvalid, ModelFileCorrupt, ModelNotFound
from bowerbird.models import ModelsConfig, zoo
from bowerbird.models.loading import load_model, start_engine
from tests.tiny_zoo import LABELS, write_tiny_embedder

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


# ---------------------------------------------------------------------------------------------------------- heads


def test_heads_are_read_with_their_labels(tmp_path: Path) -> None:
    """Each head has its kind, output, numbers and labels, in the order of the card; training data is told."""
    model = zoo.load("tiny", zoo_dir=write_tiny_embedder(tmp_path).folder)

    assert model.embedder is not None
    assert [head.name for head in model.embedder.heads] == ["category", "annotations", "drawn skin tone"]
    assert model.embedder.heads[1] == zoo.HeadSpec(
        "annotations", "multilabel", "head_annotations", tuple(LABELS["annotations"]), 2.0, -0.5, 0.3
    )
    assert (model.network, model.training_data) == (
        "mean colour, projected",
        (zoo.TrainingData("random numbers", "CC0-1.0"),),
    )
    start_engine(model, ModelsConfig(), threads=1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('kind = "multilabel"', 'kind = "many"'),
        ("temperature = 0.5", "temperature = 0"),
        ("temperature = 0.5", "temperature = inf"),
        ("temperature = 0.5", "bias = 1.0"),
        ("bias = -0.5", "bias = nan"),
        ("min_score = 0.3", "min_score = 1.5"),
        ('output = "head_tone"', 'output = "head_category"'),
        ('output = "head_tone"', ""),
        ("[heads.category]", "[heads.embedding]"),
        ("[heads.category]", "[heads.other]"),
        ("[labels]", "[other]"),
        ('licence = "CC0-1.0"', ""),
        ("code_bits = 64", "code_bits = 60"),
    ],
)
def test_a_card_with_bad_heads_is_refused_by_name(tmp_path: Path, old: str, new: str) -> None:
    """Heads are used as the card and the labels state them, or not at all."""
    card = write_tiny_embedder(tmp_path).folder / "tiny.toml"
    assert old in card.read_text()
    card.write_text(card.read_text().replace(old, new, 1))
    with pytest.raises(ModelFileCorrupt, match=r"tiny\.toml cannot be used"):
        zoo.load("tiny", zoo_dir=tmp_path)


@pytest.mark.parametrize(
    "labels",
    [
        b"{}",
        b"[]",
        b"not json",
        b'{"category": [], "annotations": ["a"], "drawn skin tone": ["a"]}',
        b'{"category": ["a", "a"], "annotations": ["a"], "drawn skin tone": ["a"]}',
        b'{"category": ["a", ""], "annotations": ["a"], "drawn skin tone": ["a"]}',
        b'{"category": ["a"], "annotations": ["a"], "drawn skin tone": ["a"], "style": ["a"]}',
    ],
)
def test_labels_that_do_not_fit_the_heads_are_refused(tmp_path: Path, labels: bytes) -> None:
    """Also with the sha256 that the card states."""
    card = write_tiny_embedder(tmp_path).folder / "tiny.toml"
    old = hashlib.sha256((tmp_path / "tiny.labels.json").read_bytes()).hexdigest()
    (tmp_path / "tiny.labels.json").write_bytes(labels)
    with pytest.raises(ModelFileCorrupt, match=r"tiny\.labels\.json has sha256"):
        zoo.load("tiny", zoo_dir=tmp_path)
    card.write_text(card.read_text().replace(old, hashlib.sha256(labels).hexdigest()))
    with pytest.raises(ModelFileCorrupt, match=r"tiny\.toml cannot be used"):
        zoo.load("tiny", zoo_dir=tmp_path)


def test_labels_of_another_number_than_the_output_end_the_start(tmp_path: Path) -> None:
    """A label more would shift nothing and be wrong all the same: the shapes are compared."""
    card = write_tiny_embedder(tmp_path).folder / "tiny.toml"
    file = tmp_path / "tiny.labels.json"
    old = hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_text(json.dumps(LABELS | {"category": ["food", "animal", "tool", "plant"]}))
    card.write_text(card.read_text().replace(old, hashlib.sha256(file.read_bytes()).hexdigest()))
    with pytest.raises(ModelFileCorrupt, match="head_category"):
        start_engine(zoo.load("tiny", zoo_dir=tmp_path), ModelsConfig(), threads=1)
