"""Settings: defaults < file < environment, and nothing unknown passes."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bowerbird import config
from bowerbird.errors import ConfigInvalid


@dataclass(frozen=True)
class Settings:
    enabled: bool = False
    size: int = 1
    ratio: float = 0.5
    name: str = "default"
    folder: Path = Path()
    labels: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ConfigInvalid(f"[probe] size: expected 0 or more, got {self.size}")


def write(folder: Path, text: str) -> Path:
    path = folder / "bowerbird.toml"
    path.write_text(text)
    return path


def load(file: Path | None = None, **environ: str) -> Settings:
    return config.load(Settings, "probe", file=file, environ=environ)


def test_defaults_stand_without_file_and_variables() -> None:
    """With nothing set, every field has the default that the dataclass declares."""
    assert load() == Settings()


def test_the_file_overrides_defaults_and_variables_override_the_file(tmp_path: Path) -> None:
    """A variable wins over the file, the file over the default."""
    file = write(tmp_path, "[probe]\nsize = 5\nname = 'file'\n")
    settings = load(file, BOWERBIRD_PROBE_NAME="variable")
    assert (settings.size, settings.name, settings.ratio) == (5, "variable", 0.5)


def test_variables_of_every_type_are_parsed() -> None:
    """Text from the environment becomes the type that the field declares."""
    settings = load(
        BOWERBIRD_PROBE_ENABLED="Yes",
        BOWERBIRD_PROBE_SIZE="7",
        BOWERBIRD_PROBE_RATIO="1e-3",
        BOWERBIRD_PROBE_FOLDER="~/pictures",
        BOWERBIRD_PROBE_LABELS="cat, dog,,",
    )
    assert settings.enabled is True
    assert (settings.size, settings.ratio, settings.labels) == (7, 0.001, ("cat", "dog"))
    assert settings.folder == Path.home() / "pictures"


def test_a_file_gives_lists_and_whole_numbers_for_floats(tmp_path: Path) -> None:
    """TOML lists fill tuples, and an integer is a good float."""
    settings = load(write(tmp_path, "[probe]\nlabels = ['a', 'b']\nratio = 2\n"))
    assert settings.labels == ("a", "b")
    assert settings.ratio == 2.0


def test_the_variable_names_the_file(tmp_path: Path) -> None:
    """Without an explicit file, the one that BOWERBIRD_CONFIG names is read."""
    file = write(tmp_path, "[probe]\nsize = 9\n")
    assert load(None, BOWERBIRD_CONFIG=str(file)).size == 9


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BOWERBIRD_PROBE_SIZE", "many"),
        ("BOWERBIRD_PROBE_SIZE", "1.5"),
        ("BOWERBIRD_PROBE_ENABLED", "maybe"),
        ("BOWERBIRD_PROBE_RATIO", ""),
        ("BOWERBIRD_PROBE_SIZE", "-1"),
    ],
)
def test_a_value_that_does_not_fit_is_named(variable: str, value: str) -> None:
    """A variable of the wrong type or range is an error that names it."""
    with pytest.raises(ConfigInvalid, match=r"(?i)size|enabled|ratio"):
        load(**{variable: value})


@pytest.mark.parametrize("text", ["size = true", "size = 'x'", "size = 1.5", "labels = [1]", "labels = 3", "name = 4"])
def test_a_file_value_of_the_wrong_type_is_refused(tmp_path: Path, text: str) -> None:
    """TOML values keep their type: true is no integer and 4 is no text."""
    with pytest.raises(ConfigInvalid, match=r"\[probe\]"):
        load(write(tmp_path, f"[probe]\n{text}\n"))


def test_unknown_keys_and_variables_are_errors(tmp_path: Path) -> None:
    """A misspelt option is never silently ignored; the message lists the known ones."""
    with pytest.raises(ConfigInvalid, match=r"unknown setting \[probe\] sise; known: .*size"):
        load(write(tmp_path, "[probe]\nsise = 1\n"))
    with pytest.raises(ConfigInvalid, match=r"unknown variable BOWERBIRD_PROBE_SISE; known: .*_SIZE"):
        load(BOWERBIRD_PROBE_SISE="1")


def test_an_unreadable_or_malformed_file_is_named(tmp_path: Path) -> None:
    """A missing file, a directory and broken TOML each give an error with the path."""
    with pytest.raises(ConfigInvalid, match=r"absent\.toml"):
        load(tmp_path / "absent.toml")
    with pytest.raises(ConfigInvalid, match="not valid TOML"):
        load(write(tmp_path, "[probe"))
    (tmp_path / "bowerbird.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigInvalid, match="not valid TOML"):
        load(tmp_path / "bowerbird.toml")
    with pytest.raises(ConfigInvalid, match="must be a table"):
        load(write(tmp_path, "probe = 3\n"))


def test_sections_nobody_reads_are_errors(tmp_path: Path) -> None:
    """A table that no service of the process knows is refused, a known one is not."""
    file = write(tmp_path, "[probe]\nsize = 1\n[prob]\nsize = 2\n")
    config.check_sections({"probe", "prob"}, file=file, environ={})
    with pytest.raises(ConfigInvalid, match="unknown section or key prob; known sections: probe"):
        config.check_sections({"probe"}, file=file, environ={})
