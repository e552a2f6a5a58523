from collections import Counter

import pytest

from bowerbird.corpora.splits import SPLITS, concept_family, split_of


@pytest.mark.parametrize(
    ("family", "concepts"),
    [
        ("cook", ["cook", "man-cook", "woman-cook"]),
        ("running", ["person-running", "woman-running-facing-right", "man-running-dark-skin-tone"]),
        ("waving-hand", ["waving-hand", "waving-hand-medium-light-skin-tone"]),
        ("person", ["man", "woman", "person", "woman-light-skin-tone"]),
        ("child", ["boy", "girl", "child"]),
        ("old", ["old-man", "old-woman", "older-person"]),
        ("family", ["family", "family-man-woman-girl-boy"]),
        ("holding-hands", ["woman-and-man-holding-hands", "women-holding-hands", "people-holding-hands"]),
        ("merperson", ["merman", "mermaid", "merperson"]),
        ("prince", ["prince", "princess"]),
        ("santa-claus", ["santa-claus", "mrs-claus", "mx-claus"]),
        ("backhand-index-pointing", ["backhand-index-pointing-up", "backhand-index-pointing-left"]),
        ("arrow", ["up-arrow", "down-left-arrow", "arrow"]),
        ("clock-face", ["one-oclock", "twelve-thirty"]),
        ("keycap", ["keycap-1", "keycap-10"]),
        ("tigre", ["tigre01", "tigre05", "tigre"]),
    ],
)
def test_variants_share_a_family_and_a_side(family: str, concepts: list[str]) -> None:
    """What a model could know from its near-duplicate stands on one side."""
    assert {concept_family(concept) for concept in concepts} == {family}
    assert len({split_of(concept) for concept in concepts}) == 1


@pytest.mark.parametrize(
    "concept", ["red-apple", "green-apple", "snowman", "womb", "1984", "left", "clock", "human", ""]
)
def test_other_concepts_are_families_of_their_own(concept: str) -> None:
    """Words are compared whole, and nothing is left without a name."""
    assert concept_family(concept) == concept


def test_split_is_fixed_forever() -> None:
    """The sides of some concepts, written down: a change would let new models train on old examinations."""
    sides = {
        "red-apple": "train",
        "cook": "test",
        "robot": "test",
        "horse": "train",
        "guitar": "train",
        "hammer": "validation",
    }
    assert {concept: split_of(concept) for concept in sides} == sides


def test_shares_are_as_announced() -> None:
    """Of many families a fifth tests and a tenth validates."""
    count = Counter(
        split_of(f"thing-{chr(97 + i // 26 % 26)}{chr(97 + i % 26)}{chr(97 + i // 676)}") for i in range(9000)
    )
    assert set(count) == set(SPLITS)
    assert count["test"] / 9000 == pytest.approx(0.2, abs=0.02)
    assert count["validation"] / 9000 == pytest.approx(0.1, abs=0.02)
