"""Sizes of experiments: changed by name, refused by name."""

import pytest

from bowerbird.errors import ArgumentInvalid
from pipelines.evidence import recipes


def test_values_are_changed_by_key() -> None:
    """Numbers, pairs and tables, each of the kind it was; what is not named stays."""
    changes = ["finetune_steps=7", "learning_rate=1", "tail=[2, 9]", 'backbone={preset = "vit-mini"}']
    changed = recipes.change(recipes.FULL, changes)
    assert (changed.finetune_steps, changed.learning_rate, changed.tail) == (7, 1.0, (2, 9))
    assert changed.backbone == {"preset": "vit-mini"}
    assert changed.pretrain_steps == recipes.FULL.pretrain_steps


@pytest.mark.parametrize("wrong", ["steps=7", "finetune_steps=many", 'finetune_steps="7"', "backbone=3"])
def test_what_does_not_fit_is_refused(wrong: str) -> None:
    """An unknown key, and a value of another kind, are named."""
    with pytest.raises(ArgumentInvalid, match=wrong.partition("=")[0]):
        recipes.change(recipes.FULL, [wrong])
