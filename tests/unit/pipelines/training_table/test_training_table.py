import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pa = pytest.importorskip("pyarrow")

import pyarrow.parquet as pq  # noqa: E402 (an extra)

from bowerbird.corpora import PictureRecord, ToneRecord, save, save_tones, split_of  # noqa: E402
from pipelines.clusters import Clusters, write_clusters  # noqa: E402
from pipelines.training_table import __main__ as command  # noqa: E402
from pipelines.training_table.files import METADATA_KEY  # noqa: E402

Run = Callable[..., dict[str, list[Any]]]

# cook tests, hammer validates, the others train
CONCEPTS = ["cook", "man-cook", "red-apple", "hammer", "waving-hand"]
STYLES = ["noto", "openmoji"]


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")


def write_rows(path: Path, **columns: list[Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Five concepts in two styles, and a hand in two skin tones."""
    pictures = [
        PictureRecord(f"pictures/{style}/{concept}.png", source=style, style=style, concept=concept, category="people")
        for style in STYLES
        for concept in CONCEPTS
    ]
    tones = [
        ToneRecord(f"tones/noto/waving-hand--{tone}.png", source="noto", style="noto", concept="waving-hand", tone=tone)
        for tone in ("light", "dark")
    ]
    save(tmp_path / "demo", pictures)
    save_tones(tmp_path / "demo", tones)
    touch(tmp_path / "demo", *(record.path for record in [*pictures, *tones]))
    return tmp_path / "demo"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs the command and reads what it wrote."""

    def build(pictures: Path, *arguments: str) -> dict[str, list[Any]]:
        out = tmp_path / "table.parquet"
        assert command.main([str(pictures), "--out", str(out), *arguments]) == 0
        columns: dict[str, list[Any]] = pq.read_table(out).to_pydict()
        return columns

    return build


def test_families_stand_on_one_side_and_the_held_out_style_never_trains(corpus: Path, run: Run) -> None:
    """The side is that of the family; openmoji tests what no style has shown, and is apart for the rest."""
    table = run(corpus)
    sides = {
        (style, concept): side
        for style, concept, side in zip(table["style"], table["concept"], table["split"], strict=True)
    }

    assert {concept: sides["noto", concept] for concept in CONCEPTS} == {
        "cook": "test",
        "man-cook": "test",
        "red-apple": "train",
        "hammer": "validation",
        "waving-hand": "train",
    }
    assert {concept: sides["openmoji", concept] for concept in CONCEPTS} == {
        "cook": "test",
        "man-cook": "test",
        "red-apple": "unseen-style",
        "hammer": "unseen-style",
        "waving-hand": "unseen-style",
    }
    assert table["family"][:2] == ["cook", "cook"]


def test_style_split_forgets_concepts(corpus: Path, run: Run) -> None:
    """Leaving one style out is one option; it can be any style, or none."""
    table = run(corpus, "--held-out-style", "noto")
    assert {(style, side) for style, side in zip(table["style"], table["style_split"], strict=True)} == {
        ("noto", "test"),
        ("openmoji", "train"),
    }
    assert "unseen-style" not in run(corpus, "--held-out-style", "")["split"]


def test_tones_are_rows_of_their_own(corpus: Path, run: Run) -> None:
    """A picture in a skin tone has its tone, the others have none; without `tones.jsonl` there are no such rows."""
    assert run(corpus)["tone"] == [None] * 10 + ["light", "dark"]
    (corpus / "tones.jsonl").unlink()
    assert run(corpus)["tone"] == [None] * 10


def test_annotations_and_clusters_join_by_picture(
    corpus: Path, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Terms come best first with their scores; a picture without any has empty lists, and strangers are counted."""
    apple, cook = "pictures/noto/red-apple.png", "pictures/noto/cook.png"
    annotations = write_rows(
        tmp_path / "annotations.parquet",
        picture=[apple, apple, apple, cook, "pictures/gone.png"],
        term=["fruit", "apple", "fruit", "chef", "ghost"],
        score=[0.5, 0.75, 0.625, 0.25, 1.0],
        sources=[["tags"]] * 5,
    )
    clusters = write_clusters(
        tmp_path / "clusters.parquet",
        Clusters(
            {"fruit": "food", "apple": "food", "food": "food"},
            dict.fromkeys(["fruit", "apple", "food"], 1),
            {"food": 2},
            {"version": "v1"},
        ),
    )
    table = run(corpus, "--annotations", str(annotations), "--clusters", str(clusters))
    row, other = table["picture"].index(apple), table["picture"].index(cook)

    assert table["annotations"][row] == ["apple", "fruit"]
    assert table["annotation_scores"][row] == [0.75, 0.625]
    assert table["clusters"][row] == ["food"]
    assert (table["annotations"][other], table["clusters"][other]) == (["chef"], [])
    assert "10 pictures have no annotation; 1 annotated pictures are not in the table" in capsys.readouterr().out
    metadata = json.loads(pq.read_schema(tmp_path / "table.parquet").metadata[METADATA_KEY])
    assert (metadata["clusters"], metadata["held_out_style"]) == ("v1", "openmoji")


def test_the_same_inputs_make_the_same_bytes(corpus: Path, run: Run, tmp_path: Path) -> None:
    """The table is deterministic, and its version changes with its content."""
    out = tmp_path / "table.parquet"
    run(corpus)
    first = out.read_bytes()
    run(corpus)
    assert out.read_bytes() == first
    run(corpus, "--held-out-style", "noto")
    assert pq.read_schema(out).metadata != pq.read_schema(pa.BufferReader(first)).metadata


def test_summary_counts_pictures_and_labels(corpus: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A row a side, and one for all."""
    run(corpus)
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert rows["split"] == ["pictures", "style", "concept", "family", "category", "tone"]
    assert rows["train"] == ["4", "1", "2", "2", "1", "2"]
    assert rows["all"] == ["12", "2", "5", "4", "1", "2"]


def test_missing_pictures_are_left_out_and_named(corpus: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A row whose file is gone would stop a training in the middle of the night."""
    (corpus / "pictures/noto/hammer.png").unlink()
    assert len(run(corpus)["picture"]) == 11
    assert "left out 1 whose pictures are not there: pictures/noto/hammer.png" in capsys.readouterr().out


def test_a_table_of_ones_own_keeps_its_columns(tmp_path: Path, run: Run) -> None:
    """Any columns are labels; what shares the value to split by stands on one side, verbatim."""
    products = [f"sku-{number}" for number in range(200)]
    lines = [
        f"{product}-{side}.jpg,{product},{'red|new' if side else 'red'},9.5" for product in products for side in (0, 1)
    ]
    (tmp_path / "shop.csv").write_text("\n".join(["image,product,words,price", *lines]) + "\n")
    touch(tmp_path, *(f"{product}-{side}.jpg" for product in products for side in (0, 1)))
    table = run(tmp_path / "shop.csv", "--picture-column", "image", "--split-by", "product")

    assert list(table) == ["picture", "product", "words", "price", "split"]
    assert table["words"][:2] == [["red"], ["red", "new"]]
    sides = {product: set() for product in products}
    for product, side in zip(table["product"], table["split"], strict=True):
        sides[product].add(side)
    assert all(len(of_product) == 1 for of_product in sides.values())
    assert 20 < sum(of_product == {"test"} for of_product in sides.values()) < 60


def test_a_table_keeps_its_own_split(tmp_path: Path, run: Run) -> None:
    """A column `split` counts, unless a column to split by is named; without either every picture is its own key."""
    touch(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "t.jsonl").write_text(
        "".join(
            json.dumps({"picture": name, "split": side}) + "\n"
            for name, side in zip(["a.png", "b.png", "c.png"], ["test", "train", "train"], strict=True)
        )
    )
    assert run(tmp_path / "t.jsonl")["split"] == ["test", "train", "train"]
    (tmp_path / "u.jsonl").write_text('{"picture": "a.png"}\n{"picture": "b.png"}\n')
    assert run(tmp_path / "u.jsonl")["split"] == run(tmp_path / "u.jsonl", "--split-by", "picture")["split"]


@pytest.mark.parametrize(
    ("content", "arguments", "reason"),
    [
        ("picture,split\na.png,training\n", [], "row 0: expected train, validation, test in `split`, got 'training'"),
        ("picture,x\na.png,1\n", ["--split-by", "product"], "column `product`"),
        ("picture,x\nb.png,1\n", [], "none of its 1 pictures is a file"),
        ("picture,x\na.png,1\n", ["--clusters", "CLUSTERS"], "expected a column `annotations`"),
        ("picture,x\na.png,1\n", ["--annotations", "BAD_TERM"], r"expected a `term`"),
        ("picture,x\na.png,1\n", ["--annotations", "BAD_SCORE"], r"expected a `score` in [0, 1], got 1.5"),
    ],
)
def test_bad_input_is_refused_with_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, arguments: list[str], reason: str
) -> None:
    """Each fault gives exit status 1, says what was expected, and writes nothing."""
    files = {
        "CLUSTERS": write_clusters(
            tmp_path / "clusters.parquet", Clusters({"a": "a"}, {"a": 1}, {"a": 1}, {"version": "v"})
        ),
        "BAD_TERM": write_rows(tmp_path / "term.parquet", picture=["a.png"], term=[None], score=[0.5]),
        "BAD_SCORE": write_rows(tmp_path / "score.parquet", picture=["a.png"], term=["a"], score=[1.5]),
    }
    touch(tmp_path, "a.png")
    (tmp_path / "t.csv").write_text(content)
    given = [str(files.get(argument, argument)) for argument in arguments]

    assert command.main([str(tmp_path / "t.csv"), "--out", str(tmp_path / "out.parquet"), *given]) == 1
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out.parquet").exists()


def test_unknown_style_is_refused(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A style that no picture has cannot be held out."""
    assert command.main([str(corpus), "--held-out-style", "open-moji"]) == 1
    assert "expected one of noto, openmoji, got 'open-moji'" in capsys.readouterr().err


def test_sources_can_be_left_out(corpus: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A model need not learn from pictures whose licence does not suit; a name that no picture has is refused."""
    assert set(run(corpus, "--without-sources", "noto", "--held-out-style", "")["style"]) == {"openmoji"}
    assert command.main([str(corpus), "--without-sources", "noto,noto-v9"]) == 1
    assert "expected some of noto, openmoji, got noto-v9" in capsys.readouterr().err


def test_concepts_of_this_test_stand_where_it_says() -> None:
    """The comment on top of this file is true."""
    assert [split_of(concept) for concept in CONCEPTS] == ["test", "test", "train", "validation", "train"]
