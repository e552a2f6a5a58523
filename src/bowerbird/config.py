"""Settings: defaults < TOML file < environment, read once, validated whole.

A service declares one frozen dataclass; each field carries its default, and its unit in the name. `load` fills it
from the section of a TOML file and from variables `BOWERBIRD_<SECTION>_<FIELD>`. An unknown key in the file or an
unknown variable of the section is an error, so a misspelt option is never silently ignored.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from bowerbird.errors import ConfigInvalid

T = TypeVar("T")

PREFIX = "BOWERBIRD_"
CONFIG_FILE_VARIABLE = "BOWERBIRD_CONFIG"
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def load(
    cls: type[T],
    section: str,
    *,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> T:
    """One validated settings object.

    Args:
        cls: a frozen dataclass whose field types are bool, int, float, str, Path or tuple[str, ...].
        section: table of the TOML file, and middle part of the variable names.
        file: TOML file; None: the one that `BOWERBIRD_CONFIG` names, if any.
        environ: None: `os.environ`.
    Raises:
        ConfigInvalid: an unknown key, a value of the wrong type, or one that `cls.__post_init__` refuses.
    """
    environ = os.environ if environ is None else environ
    values = convert(cls, _read_section(section, file, environ), f"[{section}]")
    hints = typing.get_type_hints(cls)
    variable_prefix = f"{PREFIX}{section.upper()}_"
    for variable, text in environ.items():
        if not variable.startswith(variable_prefix):
            continue
        key = variable.removeprefix(variable_prefix).lower()
        if key not in hints:
            known = ", ".join(variable_prefix + name.upper() for name in sorted(hints))
            raise ConfigInvalid(f"unknown variable {variable}; known: {known}")
        values[key] = _convert(text, hints[key], variable)
    return cls(**values)


def convert(cls: type[Any], table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Arguments for the dataclass `cls`: the values of a table of TOML, as the types that the fields declare.

    Args:
        where: what a message calls the table, such as `[server]`.
    Raises:
        ConfigInvalid: an unknown key, a value of the wrong type, or a field without default that the table lacks.
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name, field in fields.items():
        if name not in table and field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigInvalid(f"missing setting {where} {name}")
    for key in table:
        if key not in fields:
            raise ConfigInvalid(f"unknown setting {where} {key}; known: {', '.join(sorted(fields))}")
    return {key: _convert(raw, hints[key], f"{where} {key}") for key, raw in table.items()}


def check_sections(known: set[str], *, file: Path | None = None, environ: Mapping[str, str] | None = None) -> None:
    """Refuse a TOML file with a table that no service of this process reads.

    Raises:
        ConfigInvalid: the file has an unknown table or a key outside any table.
    """
    environ = os.environ if environ is None else environ
    unknown = sorted(set(_read_file(file, environ)) - known)
    if unknown:
        raise ConfigInvalid(f"unknown section or key {', '.join(unknown)}; known sections: {', '.join(sorted(known))}")


def _read_file(file: Path | None, environ: Mapping[str, str]) -> dict[str, Any]:
    if file is None and CONFIG_FILE_VARIABLE in environ:
        file = Path(environ[CONFIG_FILE_VARIABLE])
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise ConfigInvalid(f"cannot read configuration file {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{file} is not valid TOML: {error}") from error


def _read_section(section: str, file: Path | None, environ: Mapping[str, str]) -> dict[str, Any]:
    table = _read_file(file, environ).get(section, {})
    if not isinstance(table, dict):
        raise ConfigInvalid(f"[{section}] must be a table, got {type(table).__name__}")
    return table


def _convert(raw: Any, hint: Any, where: str) -> Any:
    """`raw` as the type that the field declares; text is parsed, other types must match."""
    if typing.get_args(hint)[:1] == (float,):
        if isinstance(raw, list) and all(isinstance(part, int | float) for part in raw):
            return tuple(map(float, raw))
        raise ConfigInvalid(f"{where}: expected a list of numbers, got {raw!r}")
    if typing.get_origin(hint) is tuple:
        parts = [part.strip() for part in raw.split(",") if part.strip()] if isinstance(raw, str) else raw
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            raise ConfigInvalid(f"{where}: expected a list of strings, got {raw!r}")
        return tuple(parts)
    if hint is bool:
        if isinstance(raw, bool):
            return raw
        if isinstance(raw, str) and raw.lower() in _TRUE | _FALSE:
            return raw.lower() in _TRUE
    elif hint is Path:
        if isinstance(raw, str):
            return Path(raw).expanduser()
    elif hint is str:
        if isinstance(raw, str):
            return raw
    elif hint in (int, float) and not isinstance(raw, bool):
        try:
            if isinstance(raw, str) or hint is float or isinstance(raw, int):
                return hint(raw)
        except (TypeError, ValueError):
            pass
    raise ConfigInvalid(f"{where}: expected {getattr(hint, '__name__', hint)}, got {raw!r}")
