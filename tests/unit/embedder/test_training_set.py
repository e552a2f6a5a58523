"""What a run learns from: labels as numbers, who comes when, and what is wrong with a table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bowerbird.errors import ArgumentInvalid, ConfigInvalid  # noqa: E402
from services.embedder import train_config  # noqa: E402
from services.embedder.report import describe  # noqa: E402
from services.embedder.targets import build_vocabulary, encode  # noqa: E402
from services.embedder.training_set import TrainingSet, read_training_set  # noqa: E402
from tests.unit.embedder.tiny_training import write_corpus  # noqa: E402


def read(config: Path, *overrides: str) -> TrainingSet:
    return read_training_set(train_config.read(config, overrides))


def change_rows(config: Path, **values: object) -> None:
    """Give every row of the table these values."""
    path = config.parent / "table.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**row, **values}) + "\n" for row in rows))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_corpus(tmp_path)


def test_lists_become_ids_and_come_back_by_row() -> None:
    """Unknown labels and those of confidence 0 are left out; a picture may be left with none."""
    targets = encode([["b", "x"], [], ["a", "b"], ["a"]], ("a", "b"), weights=[[0.5, 1], None, [1, 0.25], [0]])
    assert targets.labelled.tolist() == [True, False, True, False]
    assert targets.first.tolist() == [1, -1, 0, -1]
    rows = np.array([2, 1, 0, 2])
    assert targets.count(rows) == 3
    assert targets.take_first(rows).tolist() == [0, -1, 1, 0]
    lists = targets.take(rows)
    assert lists.offsets.tolist() == [0, 2, 2, 3, 5]
    assert lists.ids.tolist() == [0, 1, 1, 0, 1]
    assert lists.weights.tolist() == [1, 0.25, 0.5, 1, 0.25]


@pytest.mark.parametrize("weights", [[[1.0]], [[1.0, -1.0]], [[1.0, float("nan")]], [None]])
def test_confidences_must_match_their_labels(weights: object) -> None:
    """One each, at least 0."""
    with pytest.raises(ConfigInvalid, match=r"tags weights: row 0"):
        encode([["a", "b"]], ("a", "b"), weights=weights, where="tags")


def test_vocabulary_is_sorted_counted_or_given() -> None:
    """A picture that says a label twice counts once."""
    lists = [["b", "b"], ["a", "b"], ["c"], []]
    assert build_vocabulary(lists, "t") == ("a", "b", "c")
    assert build_vocabulary(lists, "t", min_pictures=2) == ("b",)
    assert build_vocabulary(lists, "t", given=("c", "a")) == ("c", "a")
    with pytest.raises(ConfigInvalid, match="no training picture has z"):
        build_vocabulary(lists, "t", given=("z",))
    with pytest.raises(ConfigInvalid, match="3 labels, none of them on 5 or more"):
        build_vocabulary(lists, "t", min_pictures=5)
    with pytest.raises(ConfigInvalid, match="0 labels"):
        build_vocabulary([[], []], "t")


def test_tasks_share_every_batch(config: Path) -> None:
    """The metric task's half has pairs of a concept; the other half only pictures with words; never validation."""
    data = read(config)
    for step in range(5):
        rows = data.sampler.batch(step)
        concepts = data.targets["concept"].first[rows[:6]]
        assert (concepts[::2] == concepts[1::2]).all()
        assert data.targets["words"].labelled[rows[6:]].all()
    assert len(data.table) == 45
    assert {data.table.name(row).partition("-")[0] for row in range(45)} == {str(concept) for concept in range(9)}


def test_a_share_is_part_of_a_larger_one(config: Path) -> None:
    """So that curves over the amount of data compare nested sets; another seed takes others."""
    quarter, half = (set(read(config, f"data.share={share}").rows.tolist()) for share in (0.25, 0.5))
    assert (len(quarter), len(half)) == (11, 22)
    assert quarter < half
    assert half != set(read(config, "data.share=0.5", "seed=9").rows.tolist())


def test_rare_labels_come_more_often_if_asked(config: Path) -> None:
    """`tail_threshold` repeats pictures of labels below that share."""

    def share_of_rare(data: TrainingSet) -> float:
        rows = np.concatenate([data.sampler.batch(step)[6:] for step in range(200)])
        rare = np.argmin(np.bincount(data.targets["words"].ids))
        return float(np.mean([rare in data.targets["words"].take(np.array([row])).ids for row in rows]))

    assert share_of_rare(read(config, "task.words.tail_threshold=0.9")) > 1.1 * share_of_rare(read(config))


def test_pictures_keep_their_colours_where_a_task_says_so(config: Path) -> None:
    """Only those with a label of the task."""
    assert not read(config).keep_colour.any()
    data = read(config, "task.words.keep_colour=true")
    assert 0 < data.keep_colour.sum() < len(data.table)
    assert np.array_equal(data.keep_colour, data.targets["words"].labelled)


def test_without_a_split_everything_trains(config: Path) -> None:
    """And nothing can be validated."""
    data = read(config, "data.split_column=''")
    assert len(data.table) == 60
    assert data.validation is None


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("task.concept.column=colour", ArgumentInvalid, "expected a column `colour`"),
        ("data.picture_column=file", ArgumentInvalid, "expected a column `file`"),
        ("data.table=absent.jsonl", ArgumentInvalid, "absent.jsonl"),
        ("task.words.min_pictures=1000", ConfigInvalid, "none of them on 1000"),
        ("task.shade.labels=['dark', 'pale']", ConfigInvalid, "no training picture has pale"),
        ("task.concept.column=words", ConfigInvalid, "several labels for a picture; kind multilabel"),
        ("optimizer.batch_size=13", ConfigInvalid, "a multiple of the 2 tasks"),
        ("task.concept.per_class=4", ConfigInvalid, "a divisor of its 6 pictures"),
        ("task.words.sample_rate=1.5", ConfigInvalid, "sample_rate: expected a share"),
        ("task.shade.sample_rate=0.5", ConfigInvalid, "sample_rate: only metric"),
        ("task.shade.loss=khot", ConfigInvalid, "loss: expected softmax for kind classes"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(config: Path, override: str, error: type[Exception], message: str) -> None:
    """Before anything is computed."""
    with pytest.raises(error, match=message):
        read(config, override)


def test_a_table_without_pictures_or_labels_is_an_error(config: Path) -> None:
    """No picture trains; or a task's column is empty everywhere: an empty dictionary."""
    change_rows(config, words=[], confidences=[])
    with pytest.raises(ConfigInvalid, match=r"\[\[task\]\] words: the column has 0 labels"):
        read(config)
    change_rows(config, split="test")
    with pytest.raises(ConfigInvalid, match="no picture for training among its 60"):
        read(config)


def test_a_label_with_one_picture_is_drawn_with_itself(config: Path) -> None:
    """Its pair is the same picture twice, which augmentation changes in two ways."""
    path = config.parent / "table.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text(
        "".join(json.dumps(row) + "\n" for row in rows if row["concept"] != "concept0" or "0-0" in row["picture"])
    )
    data = read(config)
    pairs = np.concatenate([data.sampler.batch(step)[:6] for step in range(9)]).reshape(-1, 2)
    alone = pairs[data.targets["concept"].first[pairs[:, 0]] == 0]
    assert len(alone) and (alone[:, 0] == alone[:, 1]).all()


def test_a_table_in_csv_has_confidences_too(config: Path) -> None:
    """There all is text: `0.9|0.4`, and of one label `0.9`, which is one number and not three characters."""
    rows = [json.loads(line) for line in (config.parent / "table.jsonl").read_text().splitlines()]
    lines = ["picture,concept,shade,words,confidences,split"]
    for row in rows:
        lists = ("|".join(map(str, row[key])) for key in ("words", "confidences"))
        lines.append(",".join([row["picture"], row["concept"], row["shade"] or "", *lists, row["split"]]))
    (config.parent / "table.csv").write_text("\n".join(lines) + "\n")
    expected, got = read(config), read(config, f"data.table={config.parent / 'table.csv'}")
    for name, targets in expected.targets.items():
        assert np.array_equal(targets.offsets, got.targets[name].offsets)
        assert np.array_equal(targets.ids, got.targets[name].ids)
    assert np.array_equal(expected.targets["words"].weights, got.targets["words"].weights)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"words": ["a"], "confidences": ["high"]}, "column 'confidences' must hold numbers"),
        ({"words": ["a"], "confidences": [float("inf")]}, "row 0 has 1 labels"),
        ({"words": ["a"], "confidences": [1.5]}, "sigmoid takes confidences of at most 1"),
    ],
)
def test_confidences_that_are_none_are_named(config: Path, values: dict[str, object], message: str) -> None:
    """Before the first step, not by a fault in the middle of it."""
    change_rows(config, **values)
    with pytest.raises(ConfigInvalid, match=message):
        read(config, "task.words.loss=sigmoid")


def test_nothing_is_no_label(config: Path) -> None:
    """Not null in a list, nor the NaN that data frames write for it."""
    change_rows(config, words=["a", None, ""], confidences=[0.5], concept="c", shade=float("nan"))
    with pytest.raises(ConfigInvalid, match="shade: the column has 0 labels"):
        read(config)
    change_rows(config, shade="dark")
    assert [task.labels for task in read(config).tasks] == [("c",), ("dark",), ("a",)]


def test_given_labels_stand_once(config: Path) -> None:
    """A head with two rows for a label would never learn one of them."""
    with pytest.raises(ConfigInvalid, match="expected each once, got dark, dark"):
        read(config, "task.shade.labels=['dark', 'dark']")


def test_a_split_by_another_name_is_told(config: Path) -> None:
    """`val` is not `validation`: the table's own words help more than a zero."""
    path = config.parent / "table.jsonl"
    path.write_text(path.read_text().replace('"validation"', '"val"'))
    data = read(config)
    assert data.validation is None
    assert data.remark == "; its splits are train (45), val (15)"
    assert data.remark in describe(data, train_config.read(config))
    path.write_text(path.read_text().replace('"train"', '"training"'))
    with pytest.raises(ConfigInvalid, match=r"no picture for training among its 60; its splits are training \(45\)"):
        read(config)
