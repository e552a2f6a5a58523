"""What an index holds already, and what becomes of the pictures."""

from bowerbird.cli.indexing import EXAMPLES_A_REASON, KnownItems, Tally
from bowerbird.cli.sources import Skipped


def test_item_is_known_by_id_and_by_state() -> None:
    """The same fields in another order are the same state; a changed hash is not."""
    known = KnownItems(iter([("a.png", {"sha256": "1", "title": "Cat", "year": 2021}), ("b.png", {"sha256": "2"})]))
    assert known.has("a.png")
    assert not known.has("c.png")
    assert known.has_same("a.png", {"year": 2021, "title": "Cat", "sha256": "1"})
    assert not known.has_same("a.png", {"year": 2021, "title": "Cat", "sha256": "9"})
    assert not known.has_same("b.png", {"sha256": "1"})


def test_nothing_is_known_of_an_empty_index() -> None:
    """An empty index answers without fault."""
    assert not KnownItems(iter([])).has("a.png")


def test_tally_counts_all_and_keeps_a_few_examples() -> None:
    """Memory stays small however many files are skipped."""
    seen: list[Skipped] = []
    tally = Tally(on_skip=seen.append)
    for number in range(100):
        tally.skip(Skipped(f"{number}.txt", "not a picture"))
    tally.add(written=3, unchanged=4)
    assert tally.skipped == {"not a picture": 100}
    assert len(tally.examples["not a picture"]) == EXAMPLES_A_REASON
    assert (tally.written, tally.unchanged, tally.skipped_total, len(seen)) == (3, 4, 100, 100)
