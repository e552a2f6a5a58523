"""Pictures into an index: what is there already is left out, what cannot be indexed is counted with its reason.

Nothing here grows with the number of pictures but two 64-bit digests an item that is in the index already.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bowerbird.cli import flow, sources
from bowerbird.cli.flow import Interrupt
from bowerbird.cli.outcome import CommandFailed
from bowerbird.cli.sources import FieldValue, Picture, Skipped, Source
from bowerbird.errors import IndexNotFound, ModelIndexMismatch
from bowerbird.progress import Progress
from bowerbird.rpc.clients import Connection, EmbedderClient, EmbedderModel, Index, Item, RetrievalClient

WINDOW_PICTURES = 64
WINDOW_BYTES = 6 * 2**20  # well below the message limit of 16 MiB
IN_FLIGHT = 4  # windows: two computing, one arriving, one being written
TIMEOUT_S = 120.0  # of a window
DELETES_A_CALL = 1000
EXAMPLES_A_REASON = 5

NOT_DECODED = "cannot be decoded"
REFUSED = "refused by the server"
ID_TAKEN = "id taken by a picture of another folder"


class KnownItems:
    """What the index holds, as sorted digests: of the ids, and of the ids with all their fields."""

    def __init__(self, items: Iterable[tuple[str, Mapping[str, FieldValue]]]) -> None:
        """
        Args:
            items: id and fields of every item; consumed one by one.
        """
        pairs = np.fromiter(
            ((_digest(item_id), _digest(item_id, fields)) for item_id, fields in items),
            dtype=[("id", np.uint64), ("state", np.uint64)],
        )
        self._ids = np.sort(pairs["id"])
        self._states = np.sort(pairs["state"])

    def has(self, item_id: str) -> bool:
        """True if an item of this id is there."""
        return _contains(self._ids, _digest(item_id))

    def has_same(self, item_id: str, fields: Mapping[str, FieldValue]) -> bool:
        """True if an item of this id is there with exactly these fields, the hash of its file among them."""
        return _contains(self._states, _digest(item_id, fields))


@dataclass
class Tally:
    """What became of the pictures; safe to use from many threads.

    Attributes:
        written: items written now.
        unchanged: items that were there already.
        skipped: how many files, by reason.
        examples: the first few skipped files of each reason.
    """

    written: int = 0
    unchanged: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[Skipped]] = field(default_factory=dict)
    on_skip: Callable[[Skipped], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *, written: int = 0, unchanged: int = 0) -> None:
        """Count pictures that are in the index."""
        with self._lock:
            self.written += written
            self.unchanged += unchanged

    def skip(self, skipped: Skipped) -> None:
        """Count a file that is not."""
        with self._lock:
            self.skipped[skipped.reason] = self.skipped.get(skipped.reason, 0) + 1
            examples = self.examples.setdefault(skipped.reason, [])
            if len(examples) < EXAMPLES_A_REASON:
                examples.append(skipped)
            if self.on_skip is not None:
                self.on_skip(skipped)

    @property
    def skipped_total(self) -> int:
        """Files that were skipped, for any reason."""
        return sum(self.skipped.values())


def index_roots(
    connection: Connection,
    roots: Sequence[Path],
    *,
    index: str,
    tally: Tally,
    progress: Progress,
    interrupt: Interrupt,
    prefix: str = "",
    in_flight: int = IN_FLIGHT,
    prune: bool = False,
) -> int:
    """Write the pictures of these files and folders; the number of items that pruning deleted.

    Args:
        roots: absolute paths.
        index: its name; it is created if it is not there.
        tally: counts what becomes of the pictures.
        progress: of as many as there are sources.
        interrupt: stops it early.
        prefix: put before every id.
        in_flight: windows at a time.
        prune: delete items of these roots whose files are gone.
    Raises:
        CommandFailed: a path is not there, or the index holds vectors of another model.
        BowerbirdError: the server failed for good; what was written stays.
    """
    indexer = Indexer(EmbedderClient(connection), RetrievalClient(connection), index, tally)
    for root in roots:
        indexer.add(root, prefix, in_flight, progress, interrupt)
    return sum(map(indexer.prune, roots)) if prune and not interrupt.stop.is_set() else 0


class Indexer:
    """Writes the pictures of folders into one index."""

    def __init__(self, embedder: EmbedderClient, retrieval: RetrievalClient, index: str, tally: Tally) -> None:
        """
        Raises:
            CommandFailed: the index holds vectors of another model.
            BowerbirdError: nothing answers.
        """
        self._embedder, self._retrieval = embedder, retrieval
        self._index, self._tally = index, tally
        self._model = embedder.get_model()
        self._require_index()
        self._known = KnownItems(iter(()))

    def add(self, root: Path, prefix: str, in_flight: int, progress: Progress, interrupt: Interrupt) -> None:
        """Write what is new or changed below `root`; stops early when interrupted.

        Raises:
            BowerbirdError: the server failed for good; what was written stays.
        """
        self.add_sources(sources.find_sources(root, prefix), in_flight, progress, interrupt)

    def add_sources(
        self,
        found: Iterator[Source | Skipped],
        in_flight: int,
        progress: Progress,
        interrupt: Interrupt,
        *,
        own_ids: bool = False,
    ) -> None:
        """Write those that are new or changed; stops early when interrupted.

        Args:
            own_ids: the ids are theirs, whatever picture the index holds by them.
        Raises:
            BowerbirdError: the server failed for good; what was written stays.
        """
        items = self._retrieval.list_items(index=self._index)
        self._known = KnownItems((item.item_id, item.fields) for item in items)
        pictures = self._read_new(found, progress, own_ids=own_ids)
        windows = flow.group(pictures, max_pictures=self._window_size(), max_bytes=WINDOW_BYTES)
        work = partial(self._write_window, progress=progress)
        flow.run_in_flight(windows, work, in_flight=max(1, in_flight), stop=interrupt.stop)

    def prune(self, root: Path) -> int:
        """How many items were deleted because their file below `root` is gone."""
        gone = [
            item.item_id
            for item in self._retrieval.list_items(index=self._index)
            if item.fields.get("root") == str(root) and not Path(root, str(item.fields.get("path"))).exists()
        ]
        return self.delete(gone)

    def delete(self, item_ids: Sequence[str]) -> int:
        """How many of these items were there, and are deleted now."""
        deleted = 0
        for start in range(0, len(item_ids), DELETES_A_CALL):
            deleted += self._retrieval.delete(item_ids[start : start + DELETES_A_CALL], index=self._index).deleted
        return deleted

    def _window_size(self) -> int:
        return max(1, min(WINDOW_PICTURES, self._model.max_batch_size or WINDOW_PICTURES))

    def _require_index(self) -> None:
        """Create the index if it is not there.

        Raises:
            CommandFailed: it is there, for vectors of another model.
        """
        model = self._model
        try:
            index = self._retrieval.get_index(self._index)
        except IndexNotFound:
            self._retrieval.create_index(
                self._index, dimension=model.dimension, code_bits=model.code_bits, model=model.model
            )
            return
        if problem := find_mismatch(index, model):
            raise CommandFailed(
                f"index {self._index!r} {problem}; embed its pictures again with: bowerbird reembed {self._index} "
                "(or give another name with --index)"
            )

    def _read_new(self, found: Iterator[Source | Skipped], progress: Progress, *, own_ids: bool) -> Iterator[Picture]:
        """The pictures that the index does not hold as they are."""
        for source in found:
            picture = sources.read_picture(source) if isinstance(source, Source) else source
            if isinstance(picture, Picture) and self._known.has_same(picture.item_id, picture.fields):
                self._tally.add(unchanged=1)
            elif isinstance(picture, Skipped):
                self._tally.skip(picture)
            elif not own_ids and (taken := self._find_owner(picture)):
                self._tally.skip(Skipped(picture_name(picture), ID_TAKEN, f"{taken}; use --prefix"))
            else:
                yield picture
                continue
            progress.advance()

    def _find_owner(self, picture: Picture) -> str:
        """The file of another folder that has this id and still exists; empty if the id is free or ours."""
        if not self._known.has(picture.item_id):
            return ""
        fields = self._retrieval.get_item(picture.item_id, index=self._index).fields
        root, path = str(fields.get("root", "")), str(fields.get("path", ""))
        owner = Path(root, path)
        is_other = bool(root) and root != picture.fields["root"]
        return str(owner) if is_other and owner.exists() and not owner.samefile(picture_name(picture)) else ""

    def _write_window(self, window: list[Picture], progress: Progress) -> None:
        items: list[Item] = []
        left = window

        def embed() -> None:
            """Embed what is left; raises when something has to be tried again."""
            nonlocal left
            answer = self._embedder.batch_embed([picture.data for picture in left], half=True, timeout_s=TIMEOUT_S)
            if answer.info.models != (self._model.model,):  # restarted with another one; its vectors look alike
                raise ModelIndexMismatch(
                    f"the embedder does not run {self._model.model.name} {self._model.model.version} any more, which "
                    "this run began with; what it wrote before stays. Run the command again"
                )
            items.extend(
                Item(picture.item_id, answer.embeddings[n].astype(np.float16), answer.codes[n], picture.fields)
                for n, picture in enumerate(left)
                if n not in answer.errors
            )
            again = []
            for n, error in answer.errors.items():
                if flow.is_transient(error):
                    again.append((left[n], error))
                else:
                    self._tally.skip(Skipped(picture_name(left[n]), NOT_DECODED, error.message))
            left = [picture for picture, _ in again]
            if again:
                raise again[0][1]

        flow.with_retries(embed)
        if items:
            self._write(items)
        progress.advance(len(window))

    def _write(self, items: list[Item]) -> None:
        written = flow.with_retries(
            lambda: self._retrieval.upsert(items, index=self._index, model=self._model.model, timeout_s=TIMEOUT_S)
        )
        self._tally.add(written=written.written)
        for number, error in written.errors.items():
            self._tally.skip(Skipped(items[number].item_id, REFUSED, error.message))


def picture_name(picture: Picture) -> str:
    """The picture's file as people find it."""
    return str(Path(str(picture.fields["root"]), str(picture.fields["path"])))


def find_mismatch(index: Index, model: EmbedderModel) -> str:
    """How the index differs from what the served model makes; empty if it fits."""
    if (index.dimension, index.code_bits) != (model.dimension, model.code_bits):
        return (
            f"holds {index.dimension}-d vectors with {index.code_bits}-bit codes, but {model.model.name} makes "
            f"{model.dimension}-d vectors with {model.code_bits}-bit codes"
        )
    if index.model.name and index.model != model.model:
        return (
            f"holds vectors of {index.model.name} {index.model.version}, but the embedder runs "
            f"{model.model.name} {model.model.version}"
        )
    return ""


def _digest(item_id: str, fields: Mapping[str, FieldValue] | None = None) -> int:
    content = item_id if fields is None else json.dumps([item_id, fields], sort_keys=True)
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest())


def _contains(digests: npt.NDArray[np.uint64], digest: int) -> bool:
    wanted = np.uint64(digest)
    position = int(np.searchsorted(digests, wanted))
    return position < len(digests) and bool(digests[position] == wanted)
