"""A trained network becomes a file of the zoo that computes the same, with a card that says what it is."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnx  # noqa: E402
import safetensors.torch  # noqa: E402
from PIL import Image  # noqa: E402

from bowerbird.errors import ConfigInvalid, ModelFileCorrupt  # noqa: E402
from bowerbird.images import PictureCache  # noqa: E402
from bowerbird.models import ModelsConfig, zoo  # noqa: E402
from bowerbird.models.tensorrt_build import build  # noqa: E402
from bowerbird.models.vit import VitConfig  # noqa: E402
from bowerbird.training.run import MODEL_FILE  # noqa: E402
from services.embedder import export, quantization, serving_graph  # noqa: E402
from services.embedder.config import EmbedderConfig  # noqa: E402
from services.embedder.engine import EmbedderEngine, EmbedInput  # noqa: E402
from services.embedder.heads import EmbedOptions  # noqa: E402
from services.embedder.model import METADATA_KEY, ModelConfig, MultiTaskEmbedder, TaskSpec  # noqa: E402
from services.embedder.origins import find_origins  # noqa: E402

SIDE, DIMENSION = 16, 64
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "yellow": (230, 220, 20)}
TASKS = (
    TaskSpec("concept", "metric", ("a", "b"), "concept"),
    TaskSpec("category", "classes", ("blue", "green", "red", "yellow"), "colour"),
    TaskSpec("annotations", "multilabel", ("cold", "dark", "warm"), "annotations", loss="sigmoid"),
    TaskSpec("tone", "classes", ("dark", "light"), "tone"),
)
GRAPHS: list[onnx.ModelProto] = []  # what torch's exporter made for the fixture `exported`
BACKBONE = {"width": 32, "depth": 2, "heads": 2, "patch_size": 8, "image_size": (SIDE, SIDE)}


def write_weights(
    folder: Path, tasks: tuple[TaskSpec, ...] = TASKS, *, dimension: int = DIMENSION
) -> MultiTaskEmbedder:
    """The file that training writes, with random weights."""
    torch.manual_seed(3)
    model = MultiTaskEmbedder(ModelConfig(VitConfig.from_dict(BACKBONE), dimension, tasks)).eval()
    record = {**model.config.to_dict(), "step": 12, "measures": {"concept/p_at_1": 0.5}}
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(model.state_dict(), folder / MODEL_FILE, {METADATA_KEY: json.dumps(record)})
    return model


def write_corpus(folder: Path, count: int = 40) -> Path:
    """Small pictures of one colour each, the table of a run, and the records with their licences."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    records, rows = [], []
    for number in range(count):
        colour = list(COLOURS)[number % 4]
        pixels = np.clip(random.normal(COLOURS[colour], 25, (24, 24, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        source = ("noto", "Apache-2.0") if number % 2 else ("twemoji", "CC-BY-4.0")
        records.append({"path": f"{number}.png", "source": source[0], "licence": source[1]})
        rows.append(
            {
                "picture": f"{number}.png",
                "split": "validation" if number >= count // 2 else "train",
                "concept": f"c{number % 8}",
                "colour": colour,
                "annotations": ["warm"] if colour in ("red", "yellow") else ["cold", "unknown"],
                "tone": "light" if number % 3 else None,
            }
        )
    for name, lines in (("pictures.jsonl", records), ("table.jsonl", rows)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "table.jsonl"


def write_run(folder: Path) -> Path:
    """A run as `train` leaves it."""
    write_weights(folder / "run")
    table = write_corpus(folder / "corpus")
    (folder / "run/config.json").write_text(json.dumps({"data": {"table": str(table), "root": "."}}))
    return folder / "run"


def parse(*words: object) -> Any:
    return export._parse([str(word) for word in words])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[zoo.ZooModel, Path]:
    """The model in a zoo, and the run that it came from."""
    folder = tmp_path_factory.mktemp("export")
    run = write_run(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            export, "export_graph", lambda *given: GRAPHS.append(serving_graph.export_graph(*given)) or GRAPHS[0]
        )
        return export.export(parse(run, "--name", "vit-test", "--zoo", folder / "zoo")), run


@pytest.fixture
def graph_at_hand(exported: tuple[zoo.ZooModel, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's exporter takes seconds; where it is not what is tested, its first graph is taken again."""
    monkeypatch.setattr(export, "export_graph", lambda *_: GRAPHS[0])


# ------------------------------------------------------------------------------------------------------ what comes out


def test_the_card_tells_what_the_model_is(exported: tuple[zoo.ZooModel, Path]) -> None:
    """Heads, labels, network, training data and differences stand in the card; heads of training are gone."""
    model, _ = exported

    assert model.embedder is not None and (model.embedder.dimension, model.embedder.code_bits) == (DIMENSION, DIMENSION)
    assert [head.name for head in model.embedder.heads] == ["category", "annotations", "drawn skin tone"]
    assert model.embedder.heads[0].labels == ("blue", "green", "red", "yellow")
    assert model.network == ("Vision Transformer, width 32, 2 layers, 2 heads, 16 x 16 in patches of 8, patch stem")
    assert {(data.source, data.licence) for data in model.training_data} == {
        ("noto", "Apache-2.0"),
        ("twemoji", "CC-BY-4.0"),
    }
    numbers = tomllib.loads(model.path.with_suffix(".toml").read_text())["numbers"]
    assert 0 < numbers["max_difference_float32"] < numbers["max_difference"] < serving_graph.MAX_DIFFERENCE
    assert numbers["concept_p_at_1"] == 0.5
    page = model.path.with_suffix(".md").read_text()
    assert "# on the validation pictures" in model.path.with_suffix(".toml").read_text()
    assert "errors are of the very pictures that the scores were fitted on" in page
    assert "twemoji | CC-BY-4.0" in page and "says nothing about people" in page


def test_one_graph_has_all_outputs_and_any_batch(exported: tuple[zoo.ZooModel, Path]) -> None:
    """Matrices are float16, the batch is dynamic, and nothing tells of the machine or the tool."""
    model, _ = exported
    graph = onnx.load(model.path)

    assert [output.name for output in graph.graph.output] == [
        "embedding",
        "code_projection",
        "head_category",
        "head_annotations",
        "head_tone",
    ]
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    matrices = [tensor for tensor in graph.graph.initializer if len(tensor.dims) > 1]
    floats = {tensor.data_type for tensor in matrices} & {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}
    assert floats == {onnx.TensorProto.FLOAT16}
    content = model.path.read_bytes()
    assert b"torch" not in content and str(Path.cwd()).encode() not in content


def test_the_service_answers_as_the_network_does(exported: tuple[zoo.ZooModel, Path]) -> None:
    """A picture through the embedder has the vector, code and best label that torch computes."""
    model, run = exported
    network = write_weights(run.parent / "again")
    picture = (run.parent / "corpus/1.png").read_bytes()
    config = EmbedderConfig(model="vit-test", run_batch_size=2)
    engine = EmbedderEngine(config, PictureCache(0), ModelsConfig(cpu_threads=1, zoo_dir=model.path.parent))
    wanted = engine.check_options(EmbedOptions(("*",)))

    alone = engine.embed(picture, wanted=wanted)
    together = engine.embed_batch([EmbedInput(picture)] * 3, wanted=wanted)
    engine.close()

    pixels = np.asarray(Image.open(run.parent / "corpus/1.png").convert("RGB").resize((SIDE, SIDE)), np.float32)
    with torch.inference_mode():
        expected = network.embed(torch.from_numpy((pixels - 127.5) / 127.5).permute(2, 0, 1)[None])
        logits = network.logits("category", expected)[0]
    unit = torch.nn.functional.normalize(expected)[0].numpy()
    assert alone.embedding @ unit > 0.99  # Pillow resizes with another filter
    np.testing.assert_allclose(together.embeddings[1], alone.embedding, atol=1e-5)
    assert alone.labels["category"][0].label == TASKS[1].labels[int(logits.argmax())]
    assert list(together.labels[2]) == ["category", "annotations", "drawn skin tone"]


def test_scores_are_fitted_on_pictures_that_did_not_train(exported: tuple[zoo.ZooModel, Path]) -> None:
    """Every head that has labels there has a temperature of its own, heads of several labels a bias and least score."""
    model, _ = exported
    assert model.embedder is not None
    category, annotations, _ = model.embedder.heads
    assert category.temperature != 1.0 and annotations.temperature != 1.0 and annotations.bias != 0.0
    assert 0 < annotations.min_score < 1


def test_a_tensorrt_engine_is_built_of_it(exported: tuple[zoo.ZooModel, Path], tmp_path: Path) -> None:
    """The Vision Transformer as exported parses and builds for TensorRT, with its dynamic batch, without a GPU."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT is not installed: pip install 'bowerbird[gpu]'")
    for precision in ("fp16", "bf16"):
        path = build(exported[0], precision=precision, max_batch=16, best_batch=4, directory=tmp_path)
        assert path.stat().st_size > 10_000


def test_the_same_run_gives_the_same_bytes(exported: tuple[zoo.ZooModel, Path], tmp_path: Path) -> None:
    """The version of a model is the hash of its file, so exporting again is the same version."""
    model, run = exported
    again = export.export(parse(run, "--name", "vit-test", "--zoo", tmp_path, "--no-calibration"))
    assert again.sha256 == model.sha256
    assert again.embedder is not None and {head.temperature for head in again.embedder.heads} == {1.0}


@pytest.mark.usefixtures("graph_at_hand")
def test_eight_bits_are_measured_beside_the_float_file(
    exported: tuple[zoo.ZooModel, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table has all forms; what is kept is named on the page."""
    _, run = exported
    model = export.export(parse(run, "--name", "vit-int8", "--zoo", tmp_path, "--int8"))
    out = capsys.readouterr().out
    for name in ("float", "dynamic", "static"):
        assert f"| {name} |" in out
    assert "Kept: " in model.path.with_suffix(".md").read_text()


@pytest.mark.usefixtures("graph_at_hand")
def test_the_card_states_the_differences_of_the_file_that_is_kept(
    exported: tuple[zoo.ZooModel, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight bits are further from the network than float16, and the card and the page say so."""
    model, run = exported
    monkeypatch.setattr(quantization, "choose", lambda variants: variants[1])
    eight = export.export(parse(run, "--name", "vit-int8", "--zoo", tmp_path, "--int8"))
    plain, kept = (
        tomllib.loads(each.path.with_suffix(".toml").read_text())["numbers"]["max_difference"]
        for each in (model, eight)
    )
    assert kept > 2 * plain
    assert "8-bit integers" in eight.path.with_suffix(".md").read_text()
    assert "stored as float16" not in eight.path.with_suffix(".md").read_text()


# ---------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.usefixtures("graph_at_hand")
def test_a_file_that_differs_from_the_network_is_not_written(
    exported: tuple[zoo.ZooModel, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond its bound, the difference is named and the zoo stays empty."""
    _, run = exported
    monkeypatch.setattr(serving_graph, "MAX_DIFFERENCE", 1e-9)
    with pytest.raises(ModelFileCorrupt, match=r"rounding the weights to float16 changes the embedding.*nothing was"):
        export.export(parse(run, "--name", "bad", "--zoo", tmp_path))
    assert not list(tmp_path.iterdir())


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No file, a file of something else, and a code that no index takes: each says what to do."""
    with pytest.raises(ConfigInvalid, match="train one first"):
        export.read_run(tmp_path)
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigInvalid, match="was not written by"):
        export.read_run(tmp_path / "other.safetensors")
    write_weights(tmp_path / "short", dimension=72)
    with pytest.raises(ConfigInvalid, match=r"dimension = 128"):
        export.read_run(tmp_path / "short")
    assert export.main([str(tmp_path), "--name", "x", "--zoo", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("cannot export: expected the weights of a run")


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """Missing tensors and other shapes are named."""
    write_weights(tmp_path)
    config, tensors, _ = export.read_run(tmp_path)
    with pytest.raises(ModelFileCorrupt, match=r"lack heads\.category\.weight"):
        export.build_network(config, {name: t for name, t in tensors.items() if name != "heads.category.weight"})
    with pytest.raises(ModelFileCorrupt, match="projection"):
        export.build_network(config, tensors | {"projection.weight": torch.zeros(2, 2)})


def test_a_name_that_is_taken_is_kept(exported: tuple[zoo.ZooModel, Path]) -> None:
    """A model of the zoo is overwritten only when told to; names are those that the zoo loads."""
    model, run = exported
    with pytest.raises(ConfigInvalid, match="--replace"):
        export.export(parse(run, "--name", "vit-test", "--zoo", model.path.parent))
    for name in ("Vit", "../vit", ""):
        with pytest.raises(ConfigInvalid, match="--name"):
            export.export(parse(run, "--name", name, "--zoo", model.path.parent))


@pytest.mark.usefixtures("graph_at_hand")
def test_a_page_that_stays_is_said(
    exported: tuple[zoo.ZooModel, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody is to take the numbers of the model before for those of this one."""
    _, run = exported
    words = [str(run), "--name", "vit-page", "--zoo", str(tmp_path), "--no-calibration"]
    assert export.main(words) == 0
    assert "up to date" not in capsys.readouterr().out
    (tmp_path / "vit-page.md").write_text("of the one before\n")
    assert export.main([*words, "--replace"]) == 0
    assert "vit-page.md was there and stays" in capsys.readouterr().out
    assert (tmp_path / "vit-page.md").read_text() == "of the one before\n"


def test_training_data_must_be_named(tmp_path: Path) -> None:
    """Without records of sources and licences they have to be given; half-recorded ones are refused."""
    run = write_run(tmp_path)
    records = tmp_path / "corpus/pictures.jsonl"
    lines = records.read_text().splitlines()
    records.write_text("\n".join(lines[5:]) + "\n")
    with pytest.raises(ConfigInvalid, match="5 training pictures have no source"):
        export.export(parse(run, "--name", "x", "--zoo", tmp_path / "zoo"))
    records.unlink()
    with pytest.raises(ConfigInvalid, match="--training-data SOURCE=LICENCE"):
        export.export(parse(run, "--name", "x", "--zoo", tmp_path / "zoo"))
    with pytest.raises(ConfigInvalid, match="two words"):
        export.export(parse(run, "--name", "x", "--zoo", tmp_path / "zoo", "--training-data", "mine"))


def add_to_config(run: Path, **changes: Any) -> None:
    """Change the configuration that a run left."""
    file = run / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.usefixtures("graph_at_hand")
def test_pictures_to_calibrate_on_are_not_what_it_learned_from(
    exported: tuple[zoo.ZooModel, Path], tmp_path: Path
) -> None:
    """The card names the sources of the run's own table, whatever other table its scores are fitted on."""
    _, run = exported
    table = write_corpus(tmp_path / "other")
    records = (tmp_path / "other/pictures.jsonl").read_text().replace("twemoji", "strangers")
    (tmp_path / "other/pictures.jsonl").write_text(records)
    model = export.export(parse(run, "--name", "vit-other", "--zoo", tmp_path / "zoo", "--table", table))
    assert {data.source for data in model.training_data} == {"noto", "twemoji"}


def test_all_that_the_weights_come_from_is_named(tmp_path: Path) -> None:
    """The runs before this one, a teacher and the first weights of a stem; what is on no record has to be said."""
    run, first = write_run(tmp_path / "last"), write_run(tmp_path / "first")
    records = tmp_path / "first/corpus/pictures.jsonl"
    records.write_text(records.read_text().replace("twemoji", "openclipart").replace("CC-BY-4.0", "CC0-1.0"))
    own = {"noto": "Apache-2.0", "twemoji": "CC-BY-4.0"}
    assert find_origins(run) == own
    add_to_config(run, init=str(first), distill={"teacher": "efficientnet-lite0"})
    add_to_config(first, backbone={"stem": "efficientnet-lite0"})
    assert find_origins(run) == own | {
        "openclipart": "CC0-1.0",
        "efficientnet-lite0 (teacher)": "Apache-2.0",
        "efficientnet-lite0 (first weights of the stem)": "Apache-2.0",
    }
    for changes in (
        {"init": str(tmp_path / "dino.safetensors")},
        {"init": str(run)},
        {"distill": {"teacher": "x.npy"}},
    ):
        add_to_config(run, **changes)
        with pytest.raises(ConfigInvalid, match=r"nothing is on record of .* --training-data"):
            find_origins(run)


@pytest.mark.parametrize("words", [["--head-name", "category=code"], ["--head-name", "annotations=category"]])
def test_heads_that_cannot_be_asked_for_are_refused_before_anything_is_written(
    tmp_path: Path, words: list[str]
) -> None:
    """A name that requests use otherwise, or two heads of one name: the zoo stays as it was."""
    run = write_run(tmp_path)
    with pytest.raises(ConfigInvalid, match=r"--head-name .*=NAME"):
        export.export(parse(run, "--name", "x", "--zoo", tmp_path / "zoo", *words))
    assert not (tmp_path / "zoo").exists()
