"""The configuration of training: every mistake is named, everything can be set."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from bowerbird.errors import ConfigInvalid  # noqa: E402
from services.embedder import train_config  # noqa: E402

CONFIGS = Path(train_config.__file__).parent / "configs"
SMALLEST = """
[data]
table = "t.jsonl"
[model]
preset = "vit-nano"
[[task]]
name = "concept"
kind = "metric"
"""


def read(tmp_path: Path, text: str, *overrides: str) -> train_config.TrainConfig:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return train_config.read(path, overrides)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path: Path) -> None:
    """Each can be read, and its tasks share the batch evenly."""
    config = train_config.read(path)
    assert config.optimizer.batch_size % sum(task.draws for task in config.tasks) == 0


def test_little_is_enough(tmp_path: Path) -> None:
    """A table, a model and a task; the model takes the size of the pictures."""
    config = read(tmp_path, SMALLEST)
    assert config.backbone.image_size == (64, 64)
    assert config.optimizer.steps == 2000
    assert config.to_dict()["data"]["table"] == "t.jsonl"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("[optimiser]\nsteps = 3", "unknown section or key optimiser"),
        ("[optimizer]\nstep = 3", r"unknown setting \[optimizer\] step"),
        ('[optimizer]\nsteps = "many"', r"\[optimizer\] steps: expected int, got 'many'"),
        ("[optimizer]\nsteps = 0", r"\[optimizer\] steps: expected 1 or more, got 0"),
        ("[optimizer]\nlayer_decay = 1.5", r"\[optimizer\] layer_decay: expected a factor in \(0, 1\]"),
        ('[optimizer]\nprecision = "fp16"', "expected auto, fp32, bf16"),
        ("[validation]\nmax_pictures = 1", r"\[validation\] max_pictures: expected 2 or more"),
        ("[distill]\nweight = 0", r"\[distill\] weight"),
        ('[[task]]\nkind = "metric"', r"missing setting \[\[task\]\] name"),
        ('[[task]]\nname = "a"\nkind = "ranking"', r"\[\[task\]\] a kind: expected metric, classes, multilabel"),
        ('[[task]]\nname = "a"\nkind = "multilabel"\nper_class = 2', r"\[\[task\]\] a per_class"),
        ('[[task]]\nname = "a"\nkind = "metric"\nbalance = 0.9', r"\[\[task\]\] a balance"),
        ('[[task]]\nname = "a"\nkind = "metric"\nweights = "w"', r"\[\[task\]\] a weights"),
        (
            "[validation]\nbest_by = 'concept/p_at1'",
            r"best_by: expected one of concept/p_at_1, .*, got 'concept/p_at1'",
        ),
        ("[augmentation]\npresset = 'light'", "augmentation: unknown presset"),
        ("[augmentation]\npreset = ['light']", "augmentation: expected none | light | strong"),
        ("[augmentation]\nflip = 'often'", "augmentation.flip: expected a value like 0.5, got 'often'"),
        ("[augmentation]\narea = [0.5]", r"augmentation.area: expected a value like \(0.6, 1.1\), got \[0.5\]"),
        ("[augmentation]\ncolour = 'no'", "augmentation.colour: expected a value like True, got 'no'"),
        ("optimizer = 3", "must be a table"),
        ("[data]\n", "not valid TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, extra: str, message: str) -> None:
    """Section, key, what was expected, what came."""
    text = extra + SMALLEST if extra.startswith("optimizer") else SMALLEST + extra
    with pytest.raises(ConfigInvalid, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[model]\npreset = "vit-nano"\n[[task]]\nname = "a"\nkind = "metric"', r"missing setting \[data\] table"),
        ('[data]\ntable = "t.jsonl"', "add at least one table"),
        (SMALLEST.replace("vit-nano", "vit-huge"), "vit-huge"),
        (SMALLEST.replace('preset = "vit-nano"', "widht = 3"), "widht"),
        (SMALLEST.replace("[model]", "[model]\ndimension = 1.5"), "dimension: expected int"),
        (SMALLEST.replace("[data]", "[data]\nmean = [1, 2]"), "three numbers"),
        (SMALLEST.replace("[data]", "[data]\nstd = [1, 2, 0]"), "above 0"),
    ],
)
def test_what_is_missing_or_impossible_is_named(tmp_path: Path, text: str, message: str) -> None:
    """Of the model too, whose keys are those of the Vision Transformer."""
    with pytest.raises(ConfigInvalid, match=message):
        read(tmp_path, text)


def test_any_value_can_be_set_from_the_command_line(tmp_path: Path) -> None:
    """Numbers, lists and text, in sections, at the top and in tasks by name."""
    config = read(
        tmp_path,
        SMALLEST,
        "seed=7",
        "output=runs/x",
        "optimizer.learning_rate=2e-4",
        "model.image_size=[32, 48]",
        "task.concept.weight=0.5",
        "augmentation.preset=strong",
        "model.init='a file.safetensors'",
    )
    assert (config.seed, config.output, config.optimizer.learning_rate) == (7, Path("runs/x"), 2e-4)
    assert (config.backbone.image_size, config.tasks[0].weight) == ((32, 48), 0.5)
    assert (config.augmentation, config.init) == ({"preset": "strong"}, "a file.safetensors")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.steps", "expected key=value"),
        ("task.absent.weight=1", "there is no task 'absent'"),
        ("optimizer.stepz=1", "stepz"),
    ],
)
def test_a_wrong_override_is_named(tmp_path: Path, override: str, message: str) -> None:
    """As a wrong line of the file is."""
    with pytest.raises(ConfigInvalid, match=message):
        read(tmp_path, SMALLEST, override)


def test_an_absent_file_is_an_error(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(ConfigInvalid, match=r"cannot read .*absent\.toml"):
        train_config.read(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed.deep=1", "seed is a value and has no keys"),
        ("data.table.name=x", "table is a value and has no keys"),
        ("seed=-1", "seed: expected 0 or more, got -1"),
    ],
)
def test_an_override_of_what_has_no_keys_is_named(tmp_path: Path, override: str, message: str) -> None:
    """And not a fault of the program."""
    with pytest.raises(ConfigInvalid, match=message):
        read(tmp_path, "seed = 0\n" + SMALLEST, override)


@pytest.mark.parametrize("text", ["task = [1, 2]", "[task]\nname = 'a'"])
def test_tasks_are_a_list_of_tables(tmp_path: Path, text: str) -> None:
    """Also where one of them is to be changed."""
    with pytest.raises(ConfigInvalid, match="add at least one table"):
        read(tmp_path, text, "task.a.weight=1")
