"""What a model learned from, with the licence of each source: pictures, and what other models gave it.

The pictures are those that trained the run, and the run that its weights came from, and so on; a corpus records their
sources beside them. A teacher, and the weights of a stem, are named with the licence on their card of the zoo.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bowerbird.errors import ConfigInvalid
from bowerbird.models import zoo

from .examples import TRAINED_SPLIT, TablePlace
from .training_set import find_split

CONFIG_FILE = "config.json"
HYBRID_STEM = "efficientnet-lite0"  # of a backbone, and the model of the zoo that it starts from
RECORD_FILES = ("pictures.jsonl", "tones.jsonl")  # beside the pictures of a corpus: source and licence of each
HOW_TO_SAY = "say what the model learned from, and its licence, with --training-data SOURCE=LICENCE"


def read_config(run: Path) -> dict[str, Any]:
    """The configuration of a run, or of the run whose weights this file is; empty if it is not there.

    Raises:
        ConfigInvalid: it cannot be read.
    """
    file = (run if run.is_dir() else run.parent) / CONFIG_FILE
    if not file.is_file():
        return {}
    try:
        config: dict[str, Any] = json.loads(file.read_text())
    except ValueError as error:
        raise ConfigInvalid(f"{file} cannot be read: {error}") from error
    return config


def find_origins(run: Path) -> dict[str, str]:
    """Licence by source of all that a run learned from.

    Raises:
        ConfigInvalid: something of it has no licence on record; the message says what to do.
    """
    found: dict[str, str] = {}
    visited: list[Path] = []
    start = str(run)
    while start:
        config = read_config(Path(start))
        if (visited and not config) or Path(start).resolve() in visited:
            raise ConfigInvalid(f"nothing is on record of {start}, which the weights began as; {HOW_TO_SAY}")
        visited.append(Path(start).resolve())
        found = {**_find_own(config), **found}
        start = config.get("init", "")
    return found


def _find_own(config: Mapping[str, Any]) -> dict[str, str]:
    """What one run adds to the weights that it began with."""
    place = TablePlace.from_run(config) if config else None
    found = find_sources(place) if place is not None and place.table.exists() else {}
    if not found:
        raise ConfigInvalid(HOW_TO_SAY)
    if not config.get("init") and config.get("backbone", {}).get("stem") == HYBRID_STEM:
        found |= _describe_model(HYBRID_STEM, "first weights of the stem")
    if teacher := config.get("distill", {}).get("teacher"):
        if Path(teacher).suffix == ".npy":
            raise ConfigInvalid(f"nothing is on record of {teacher}, which the model learned from; {HOW_TO_SAY}")
        found |= _describe_model(teacher, "teacher")
    return found


def _describe_model(name: str, role: str) -> dict[str, str]:
    return {f"{name} ({role})": zoo.load(name).licence}


def find_sources(place: TablePlace) -> dict[str, str]:
    """Licence by source of the training pictures, as the corpus beside them records it; empty if it does not.

    Raises:
        ConfigInvalid: it records some of them only.
    """
    records = [place.root / name for name in RECORD_FILES if (place.root / name).is_file()]
    if not records:
        return {}
    known = {}
    for line in (line for file in records for line in file.read_text().splitlines()):
        record = json.loads(line)
        known[record["path"]] = (str(record.get("source", "")), str(record.get("licence", "")))
    table = place.read([])
    names = table.paths
    counts = Counter(
        known.get(names[row], ("", "")) for row in find_split(table, place.split_column, TRAINED_SPLIT).tolist()
    )
    if unknown := sum(count for (source, licence), count in counts.items() if not (source and licence)):
        places = " and ".join(map(str, records))
        raise ConfigInvalid(
            f"{unknown:,} training pictures have no source and licence in {places}; say with --training-data "
            "SOURCE=LICENCE what the model learned from"
        )
    licences: dict[str, set[str]] = {}
    for source, licence in counts:
        licences.setdefault(source, set()).add(licence)
    return {source: " / ".join(sorted(found)) for source, found in sorted(licences.items())}
