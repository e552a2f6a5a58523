"""Whether a resumed run is still the run that it was: what has changed since its state was saved.

Labels that changed are refused, because row c of a head would now stand for another label and nothing would show it.
Pictures and settings may be changed by intent (more steps, a lower rate), so they are told and taken.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from bowerbird.errors import ConfigInvalid
from bowerbird.training.state import State

from .training_set import TrainingSet

LABELS, PICTURES = "labels", "pictures"
NOT_LEARNT_FROM = ("output",)  # settings that change nothing of what is learnt


def fingerprint(data: TrainingSet) -> dict[str, Any]:
    """What a state remembers of its data, as JSON values: a digest of each task's labels, and one of the pictures."""
    pictures = hashlib.sha256(json.dumps(data.table.paths).encode())
    for targets in data.targets.values():
        pictures.update(targets.offsets.tobytes())
        pictures.update(targets.ids.tobytes())
        pictures.update(b"" if targets.weights is None else targets.weights.tobytes())
    labels = {task.name: hashlib.sha256(json.dumps(task.labels).encode()).hexdigest() for task in data.tasks}
    return {LABELS: labels, PICTURES: pictures.hexdigest()}


def check_data(latest: State, now: Mapping[str, Any]) -> list[str]:
    """What has to be said about the data, now that they are of this fingerprint; empty: they are the same.

    Raises:
        ConfigInvalid: the labels of a task are not those that its head was trained for.
    """
    labels = latest.extra.get(LABELS, {})
    if changed := [name for name, digest in now[LABELS].items() if labels.get(name, digest) != digest]:
        raise ConfigInvalid(
            f"the labels of {', '.join(changed)} are not those that {latest.path} was trained for; resume with the "
            f"table that it had, or start another run from its weights: "
            f"--output DIR --set model.init={latest.path.parent.parent}"
        )
    if latest.extra.get(PICTURES, now[PICTURES]) != now[PICTURES]:
        return ["the table's training pictures or their labels have changed since the state was saved"]
    return []


def list_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`optimizer.steps: 2000 -> 4000` for each setting that differs, in the order of the new ones."""
    before, after = _flatten(old), _flatten(new)
    names = [name for name in {**after, **before} if name not in NOT_LEARNT_FROM]
    return [f"{name}: {before.get(name)} -> {after.get(name)}" for name in names if before.get(name) != after.get(name)]


def _flatten(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names as in --set; tasks by their names."""
    flat: dict[str, Any] = {}
    for key, value in document.items():
        name = "task" if key == "tasks" else key
        if key == "tasks":
            value = {task["name"]: task for task in value}
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
