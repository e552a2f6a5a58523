"""Vectors of picture files by a named model: those kept from earlier first, the rest through a real embedder service.

Kept are, one file a model, embeddings (float16, as an index stores them) and codes by the sha256 of the picture's file:
a second evaluation computes nothing, and that of a corpus which grew only what is new. A model is known by its name and
its version, the first digits of the sha256 of its file, so another file under the same name starts anew.

Legend: N pictures, D dimensions, W bytes of a code.
"""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bowerbird.cli import flow
from bowerbird.cli.options import Options, open_connection, read_file
from bowerbird.cli.outcome import CommandFailed
from bowerbird.cli.private import serve_model
from bowerbird.cli.sources import Picture
from bowerbird.corpora import default_cache_dir
from bowerbird.corpora.files import replace_file
from bowerbird.errors import BowerbirdError, ModelNotFound
from bowerbird.models import zoo
from bowerbird.progress import Progress
from bowerbird.rpc.clients import Connection, EmbedderClient, ModelRef
from bowerbird.vectors import CodeArray, FloatArray, HalfArray

FOLDER = "vectors"
PICTURES_A_CALL = 64
BYTES_A_CALL = 8 * 2**20
IN_FLIGHT = 2
PROBE_TIMEOUT_S = 5.0
VERSION_DIGITS = 12


@dataclass(frozen=True)
class Vectors:
    """Pictures as a model sees them.

    Attributes:
        model: name and version.
        embeddings: (N, D) float32, unit length.
        codes: (N, W) uint8.
        computed: how many were not kept already.
    """

    model: ModelRef
    embeddings: FloatArray
    codes: CodeArray
    computed: int


class Store:
    """The kept vectors of one model."""

    def __init__(self, model: ModelRef, folder: Path) -> None:
        self.file = folder / f"{model.name}-{model.version}.npz"
        self.rows: dict[str, tuple[HalfArray, CodeArray]] = {}
        if self.file.exists():
            self._load()

    def _load(self) -> None:
        try:
            with self.file.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                columns = kept["digests"].tolist(), kept["embeddings"], kept["codes"]
                self.rows = {digest: (row, code) for digest, row, code in zip(*columns, strict=True)}
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            self.rows = {}  # it can be computed again

    def save(self) -> None:
        """Write all rows; a reader sees the old file or the new one."""
        if not self.rows:
            return
        content = io.BytesIO()
        embeddings, codes = zip(*self.rows.values(), strict=True)
        np.savez(content, digests=np.array(list(self.rows)), embeddings=np.stack(embeddings), codes=np.stack(codes))
        replace_file(self.file, content.getvalue())


def embed_files(arguments: Options, model: str, files: Sequence[Path]) -> Vectors:
    """The vectors of these picture files by the model of this name.

    The running services are asked if they serve this very model; else a private embedder is started, and ends here.

    Raises:
        ModelNotFound: neither the zoo nor the running services have the model.
        CommandFailed: a file cannot be read or is no picture; the private embedder does not start.
    """
    digests = [hashlib.sha256(read_file(file)).hexdigest() for file in files]
    found = _find_model(arguments, model)
    store = Store(found, default_cache_dir() / FOLDER)
    missing = {digest: file for digest, file in zip(digests, files, strict=True) if digest not in store.rows}
    if missing:
        try:
            with _open_server(arguments, found) as connection:
                _fill(store, connection, missing, found)
        finally:
            store.save()
    rows = [store.rows[digest] for digest in digests]
    embeddings = np.stack([row for row, _ in rows]).astype(np.float32)
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)  # float16 is a little off unit length
    return Vectors(found, embeddings / norms, np.stack([code for _, code in rows]), len(missing))


def _find_model(arguments: Options, name: str) -> ModelRef:
    """Name and version, from the zoo of this machine, else from the running services."""
    try:
        model = zoo.load(name)
    except ModelNotFound:
        served = _ask_server(arguments)
        if served is None or served.name != name:
            raise
        return served
    if model.kind != "embedder":
        raise CommandFailed(f"{name} is a {model.kind}, expected an embedder")
    return ModelRef(model.name, model.sha256[:VERSION_DIGITS])


def _ask_server(arguments: Options) -> ModelRef | None:
    """What the running services serve; None if there are none, or none that may be asked."""
    try:
        with open_connection(arguments) as connection:
            return EmbedderClient(connection).get_model(timeout_s=PROBE_TIMEOUT_S).model
    except BowerbirdError:
        return None


@contextmanager
def _open_server(arguments: Options, model: ModelRef) -> Iterator[Connection]:
    if _ask_server(arguments) == model:
        with open_connection(arguments) as connection:
            yield connection
    else:
        with serve_model(model.name) as connection:
            yield connection


def _fill(store: Store, connection: Connection, missing: dict[str, Path], model: ModelRef) -> None:
    """Compute what is missing, in bounded batches, two in flight so that reading and computing overlap.

    Raises:
        CommandFailed: a picture cannot be embedded, or another model answers; its vectors are not kept.
    """
    client, lock = EmbedderClient(connection), threading.Lock()
    served = client.get_model()
    progress = Progress(len(missing), f"pictures by {model.name}")

    def embed(window: list[Picture]) -> None:
        result = flow.with_retries(lambda: client.batch_embed([picture.data for picture in window], half=True))
        if result.info.models != (model,):
            names = ", ".join(f"{each.name} {each.version}" for each in result.info.models) or "a model without a name"
            raise CommandFailed(
                f"{names} answers in place of {model.name} {model.version}: the file of the model was changed, or the "
                "services started anew, meanwhile; run this again"
            )
        for position, error in result.errors.items():
            raise CommandFailed(f"{missing[window[position].item_id]} cannot be embedded: {error.message}")
        with lock:
            for picture, row, code in zip(window, result.embeddings, result.codes, strict=True):
                store.rows[picture.item_id] = (row.astype(np.float16), code)
            progress.advance(len(window))

    pictures = (Picture(digest, read_file(file), {}) for digest, file in missing.items())
    count = min(PICTURES_A_CALL, served.max_batch_size)
    windows = flow.group(pictures, max_pictures=count, max_bytes=BYTES_A_CALL)
    with flow.Interrupt() as interrupt:
        flow.run_in_flight(windows, embed, in_flight=IN_FLIGHT, stop=interrupt.stop)
    progress.finish()
    if interrupt.stop.is_set():
        raise KeyboardInterrupt
