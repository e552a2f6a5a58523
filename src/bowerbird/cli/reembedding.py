"""An index made again with the served model: beside the old one first, then in its place.

The new index is built under a name that the old one and the model's version give, so that an interrupted run is found
and goes on. What is written to the old index meanwhile is seen: the replacement is refused by the server, and what
changed is done before it is tried again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bowerbird.cli.flow import Interrupt
from bowerbird.cli.indexing import Indexer, KnownItems, Tally, find_mismatch
from bowerbird.cli.sources import Skipped, Source
from bowerbird.errors import IndexChanged, IndexNotFound
from bowerbird.progress import Progress
from bowerbird.rpc.clients import Connection, EmbedderClient, Index, Item, RetrievalClient

MAX_NAME = 63  # characters of an index's name
MAX_PASSES = 10  # over an index that is written to all the time
NO_PICTURE = "the index does not say where its picture is"


@dataclass(frozen=True)
class Outcome:
    """What became of the items, and whether the new index is in place."""

    tally: Tally
    is_replaced: bool


class Reembedding:
    """One index, to be embedded again."""

    def __init__(
        self,
        connection: Connection,
        index: str,
        *,
        pictures: Path | None = None,
        on_skip: Callable[[Skipped], None] | None = None,
    ) -> None:
        """
        Args:
            pictures: folder below which the paths of the items are now; None: where they were.
            on_skip: called with every item that cannot be embedded, in each pass over the index.
        Raises:
            IndexNotFound: there is no such index.
        """
        self._retrieval, self._embedder = RetrievalClient(connection), EmbedderClient(connection)
        self._index, self._pictures, self._on_skip = index, pictures, on_skip
        served, existing = self._embedder.get_model(), self._retrieval.get_index(index)
        self._served = served
        self.is_needed = self._is_other(existing)
        self.model = f"{served.model.name} {served.model.version}"
        self.count = existing.items
        self.tally = Tally()
        self._successor = name_successor(index, served.model.name, served.model.version)

    def run(self, progress: Progress, interrupt: Interrupt, *, in_flight: int, drop_missing: bool) -> Outcome:
        """Embed what is not embedded yet, and replace the index, unless it is interrupted or pictures are missing.

        Raises:
            IndexChanged: others write to the index faster than it can be embedded.
            BowerbirdError: the server failed for good; what was embedded stays for the next run.
        """
        written = 0
        for _ in range(MAX_PASSES):
            existing = self._retrieval.get_index(self._index)
            if not self._is_other(existing):  # another run of this command was faster
                self._drop_successor()
                return Outcome(replace(self.tally, written=written), is_replaced=True)
            sequence = existing.sequence  # before the items: a later write is not missed
            self.tally = Tally(on_skip=self._on_skip)
            try:
                self._make_pass(progress, interrupt, in_flight)
            except IndexNotFound:  # that other run took the successor
                continue
            finally:
                written += self.tally.written
            if interrupt.stop.is_set() or (self.tally.skipped and not drop_missing):
                return Outcome(replace(self.tally, written=written), is_replaced=False)
            try:
                self._retrieval.replace_index(self._index, self._successor, sequence=sequence)
            except (IndexChanged, IndexNotFound):
                continue
            # What an earlier pass wrote is unchanged for the last one.
            unchanged = max(0, self.tally.unchanged - (written - self.tally.written))
            return Outcome(replace(self.tally, written=written, unchanged=unchanged), is_replaced=True)
        raise IndexChanged(f"index {self._index!r} changes all the time; stop writing to it and run this again")

    def _is_other(self, index: Index) -> bool:
        """Whether the index is not, for certain, of the model that is served."""
        return bool(find_mismatch(index, self._served)) or not index.model.name

    def _drop_successor(self) -> None:
        with suppress(IndexNotFound):
            self._retrieval.delete_index(self._successor)

    def _make_pass(self, progress: Progress, interrupt: Interrupt, in_flight: int) -> None:
        """Make the successor hold what the index holds now."""
        indexer = Indexer(self._embedder, self._retrieval, self._successor, self.tally)
        indexer.add_sources(self._find_sources(), in_flight, progress, interrupt, own_ids=True)
        if interrupt.stop.is_set():
            return
        items = self._retrieval.list_items(index=self._index)
        current = KnownItems((item.item_id, item.fields) for item in items)
        made = self._retrieval.list_items(index=self._successor)
        indexer.delete([item.item_id for item in made if not current.has(item.item_id)])

    def _find_sources(self) -> Iterator[Source | Skipped]:
        for item in self._retrieval.list_items(index=self._index):
            yield locate(item, self._pictures)


def locate(item: Item, pictures: Path | None) -> Source | Skipped:
    """The file of an item, with the fields that the index has of it; or that nothing says where it is.

    Args:
        pictures: folder that stands in place of the item's own root.
    """
    root, path = item.fields.get("root"), item.fields.get("path")
    if not path or not (root or pictures):
        return Skipped(item.item_id, NO_PICTURE)
    folder = pictures or Path(str(root))
    known = {name: value for name, value in item.fields.items() if name != "sha256"}
    return Source(item.item_id, folder / str(path), known | {"root": str(folder)})


def name_successor(index: str, model: str, version: str) -> str:
    """Name of the index that will take the place of `index`: the same for the same model."""
    digest = hashlib.sha256(f"{index} {model} {version}".encode()).hexdigest()[:12]
    suffix = f"-reembed-{digest}"
    return index[: MAX_NAME - len(suffix)] + suffix
