"""How good the embedding is in the middle of training, on the pictures of the validation split.

    metric       p_at_1, r_at_10: a picture's nearest others carry its label; binary_p_at_1: the same by codes
    classes      accuracy
    multilabel   map: average precision of each label that a validation picture has, averaged; r_at_10: share of a
                 picture's labels among its ten best

The labels of metric tasks are those of the validation pictures, which need not be known in training: retrieval of
concepts never seen is what the embedding is for. These are measures to watch a run by and to choose its best state; the
tables of docs/papers.md are made by `bowerbird eval`.

Legend: M pictures, D dimensions, C labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from bowerbird import images
from bowerbird.errors import BowerbirdError
from bowerbird.evaluation.measures import average_precision
from bowerbird.images import PixelArray
from bowerbird.training.augment import Evaluate
from bowerbird.training.dataset import PictureTable
from bowerbird.training.distributed import Rank, gather_rows
from bowerbird.training.draws import IntArray

from .model import MultiTaskEmbedder, TaskSpec
from .targets import Targets
from .train_config import MEASURES

BATCH = 64
DEPTH = 10
QUERIES_AT_ONCE = 512


class Validation:
    """The pictures, their labels, and what to measure on them.

    Attributes:
        unread: names of the pictures that the last measurement had to leave out.
    """

    def __init__(
        self, table: PictureTable, targets: Mapping[str, Targets], transform: Evaluate, *, workers: int = 1
    ) -> None:
        """
        Args:
            table: M pictures.
            targets: of each task, M each; metric tasks by a vocabulary of these pictures.
            transform: that of serving.
            workers: threads that decode.
        """
        self._table, self._targets, self._transform = table, targets, transform
        self._workers = max(1, workers)
        self.unread: list[str] = []

    def __len__(self) -> int:
        return len(self._table)

    def measure(self, model: MultiTaskEmbedder, rank: Rank) -> dict[str, float]:
        """`<task>/<measure>` -> value; every rank calls this, embeds its part and gets the same figures."""
        was_training = model.training
        model.eval()
        with torch.inference_mode():
            rows, embeddings = self._embed(model, rank)
            self.unread = [self._table.name(row) for row in np.setdiff1d(np.arange(len(self._table)), rows).tolist()]
            result = {}
            for task in model.config.tasks:
                for name, value in _measure_task(model, task, embeddings, self._targets[task.name], rows).items():
                    result[f"{task.name}/{name}"] = value
        model.train(was_training)
        return result

    def _embed(self, model: MultiTaskEmbedder, rank: Rank) -> tuple[IntArray, Tensor]:
        """(M',) rows that could be read and (M', D) embeddings, on the device."""
        own = np.arange(rank.rank, len(self._table), rank.world_size)
        rows, parts = [], [torch.zeros(0, model.config.dimension, device=rank.device)]
        with ThreadPoolExecutor(self._workers, "validation") as pool:
            for start in range(0, len(own), BATCH):
                chunk = own[start : start + BATCH]
                read = list(pool.map(self._read, chunk.tolist()))
                kept = [(row, pixels) for row, pixels in zip(chunk.tolist(), read, strict=True) if pixels is not None]
                if kept:
                    pictures = self._transform([pixels for _, pixels in kept], chunk, 0).to(rank.device)
                    parts.append(model.embed(pictures))
                    rows += [row for row, _ in kept]
        ids = gather_rows(torch.tensor(rows, dtype=torch.int64, device=rank.device), rank).cpu().numpy()
        order = np.argsort(ids)
        embeddings = gather_rows(torch.cat(parts), rank)
        return ids[order], embeddings[torch.from_numpy(order).to(rank.device)]

    def _read(self, row: int) -> PixelArray | None:
        try:
            return images.decode(self._table.read(row), min_side=self._transform.min_side).pixels
        except BowerbirdError:
            return None


def _measure_task(
    model: MultiTaskEmbedder, task: TaskSpec, embeddings: Tensor, targets: Targets, rows: IntArray
) -> dict[str, float]:
    labelled = np.flatnonzero(targets.labelled[rows])
    if not len(labelled) or task.is_sharded:
        return {}
    chosen, part = rows[labelled], embeddings[torch.from_numpy(labelled).to(embeddings.device)]
    if task.kind == "metric":
        return measure_retrieval(part, targets.take_first(chosen))
    scores = model.logits(task.name, part)
    if task.kind == "classes":
        return {"accuracy": float((scores.argmax(1).cpu() == targets.take_first(chosen)).float().mean())}
    return measure_labels(scores.float().cpu(), targets, chosen)


def measure_retrieval(embeddings: Tensor, labels: Tensor) -> dict[str, float]:
    """Measures of each picture against all others; a picture whose label no other has asks no question.

    Args:
        embeddings: (M, D) float32, of any length.
        labels: (M,) int64.
    """
    counts = torch.bincount(labels)
    queries = torch.nonzero(counts[labels] > 1)[:, 0]
    if not len(queries):
        return {}
    labels = labels.to(embeddings.device)
    unit = torch.nn.functional.normalize(embeddings, dim=1)
    signs = torch.where(embeddings > 0, 1.0, -1.0)
    hits = torch.cat(list(_find_hits(unit, labels, queries)))
    binary = torch.cat(list(_find_hits(signs, labels, queries)))
    return {
        "p_at_1": float(hits[:, 0].float().mean()),
        "r_at_10": float(hits.any(1).float().mean()),
        "binary_p_at_1": float(binary[:, 0].float().mean()),
    }


def _find_hits(vectors: Tensor, labels: Tensor, queries: Tensor) -> Iterator[Tensor]:
    """(q, 10) bool: whether the nearest others carry the query's label; some queries at a time."""
    for part in queries.to(vectors.device).split(QUERIES_AT_ONCE):
        scores = vectors[part] @ vectors.T
        scores[torch.arange(len(part), device=part.device), part] = -torch.inf
        nearest = scores.topk(min(DEPTH, len(vectors) - 1), dim=1).indices
        yield labels[nearest] == labels[part][:, None]


def measure_labels(scores: Tensor, targets: Targets, rows: IntArray) -> dict[str, float]:
    """Measures of (M, C) scores against the label lists of these rows."""
    lists = targets.take(rows)
    truth = torch.zeros_like(scores, dtype=torch.bool)
    truth[lists.rows, lists.ids] = True
    asked = truth.any(0)
    precision = average_precision(scores[:, asked].T.numpy(), truth[:, asked].T.numpy())
    best = scores.topk(min(DEPTH, scores.shape[1]), dim=1).indices
    found = truth.gather(1, best).sum(1) / truth.sum(1)
    return {"map": float(precision.mean()), "r_at_10": float(found.mean())}


def summarise(measures: Mapping[str, float], tasks: Sequence[TaskSpec], best_by: str) -> float | None:
    """The one number that says which state is best; None where nothing could be measured.

    Args:
        best_by: a measure; empty: the mean of each task's first, p_at_1, accuracy or map.
    """
    if best_by:
        return measures.get(best_by)
    values = [measures[key] for task in tasks if (key := f"{task.name}/{MEASURES[task.kind][0]}") in measures]
    return sum(values) / len(values) if values else None
