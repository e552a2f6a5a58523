"""A warm start from another model: for some steps the embedding also has to predict what that model sees.

A linear map of our embedding is pulled towards the teacher's unit vector of the picture as it is, whatever augmentation
did to ours, by 1 - cosine; the map is dropped afterwards. (Hinton et al. 2015 distil class probabilities; a teacher
with other labels than ours has none, so its embedding is what is left to learn from.) Not in the paper: on a processor
the hours it saves are most of the training.

Legend: B pictures of a step, N of the table, D our dimensions, K the teacher's.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.errors import BowerbirdError, ConfigInvalid
from bowerbird.images import PictureCache
from bowerbird.progress import Progress
from bowerbird.training.dataset import PictureTable
from bowerbird.training.draws import IntArray
from bowerbird.training.state import write_file

from .config import EmbedderConfig
from .engine import EmbedderEngine, EmbedInput

CHUNK = 64

Vectors = npt.NDArray[np.float16]


class Distiller(nn.Module):
    """The linear map from our embedding to the teacher's."""

    def __init__(self, dimension: int, vectors: Vectors) -> None:
        """
        Args:
            dimension: D.
            vectors: (N, K) float16 unit vectors of the teacher; a row of zeros where it saw nothing.
        """
        super().__init__()
        self._vectors = torch.from_numpy(vectors)
        self.projection = nn.Linear(dimension, vectors.shape[1], bias=False)

    def forward(self, embeddings: Tensor, rows: Tensor, *, denominator: float) -> Tensor:
        """Scalar: the sum of 1 - cosine over the pictures, divided by the denominator.

        Args:
            embeddings: (B, D) float32.
            rows: (B,) int64 of the table.
        """
        wanted = self._vectors[rows].to(embeddings.device, torch.float32)
        cosines = functional.cosine_similarity(self.projection(embeddings), wanted, dim=1)
        return ((1 - cosines) * wanted.any(1)).sum() / denominator


def read_teacher(teacher: str, table: PictureTable, rows: IntArray, folder: Path, *, report: bool = True) -> Vectors:
    """(N, K) float16 vectors of the training pictures.

    Args:
        teacher: name of a model of the zoo, or a .npy file with a vector for every row of the file that `table` is of.
        table: the N training pictures.
        rows: (N,) where they stand in that file.
        folder: where the zoo model's vectors are kept, as computing them takes a while.
        report: whether to show progress.
    Raises:
        ConfigInvalid: the file is no array with a row a picture.
        ModelNotFound: the zoo has no such model.
    """
    if Path(teacher).suffix == ".npy":
        vectors = _load(Path(teacher))
        if len(vectors) <= rows.max():
            raise ConfigInvalid(f"[distill] teacher: {teacher} has {len(vectors):,} rows, the table has more")
        return vectors[rows]
    key = hashlib.sha256(json.dumps([teacher, table.paths]).encode()).hexdigest()
    cache = folder / f"teacher-{key[:12]}.npy"  # another model or other pictures have another file
    if not cache.exists():
        content = io.BytesIO()
        np.save(content, _embed(teacher, table, report=report))
        folder.mkdir(parents=True, exist_ok=True)
        write_file(cache, content.getvalue())
    vectors = _load(cache)
    if len(vectors) != len(table):
        raise ConfigInvalid(
            f"[distill] teacher: {cache} is of {len(vectors):,} pictures, not {len(table):,}; delete it"
        )
    return vectors


def _load(path: Path) -> Vectors:
    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"[distill] teacher: cannot read {path}: {error}") from error
    if vectors.ndim != 2:
        raise ConfigInvalid(f"[distill] teacher: expected a vector a row in {path}, got shape {vectors.shape}")
    return np.asarray(vectors, np.float16)


def _embed(name: str, table: PictureTable, *, report: bool) -> Vectors:
    """The vectors of a zoo model; zeros for pictures that cannot be read."""
    engine = EmbedderEngine(EmbedderConfig(model=name), PictureCache(0))
    progress = Progress(len(table), f"pictures embedded by {name}")
    parts = []
    try:
        for start in range(0, len(table), CHUNK):
            rows = range(start, min(start + CHUNK, len(table)))
            parts.append(engine.embed_batch([_read(table, row) for row in rows]).embeddings.astype(np.float16))
            if report:
                progress.advance(len(rows))
    finally:
        engine.close()
    if report:
        progress.finish()
    return np.concatenate(parts)


def _read(table: PictureTable, row: int) -> EmbedInput | BowerbirdError:
    try:
        return EmbedInput(table.read(row))
    except BowerbirdError as error:
        return error
