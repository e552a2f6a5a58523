"""Nearest binary codes: one interface over our kernel, faiss and the plain reference.

Legend: N codes (slots), Q queries, W bytes a code, K results.

Every backend answers with slots of the arrays it is given, nearest first, and never with one that the mask excludes.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bowerbird import native
from bowerbird.native import reference
from bowerbird.vectors import CodeArray

from .fields import BoolArray, SlotArray

DistanceArray = npt.NDArray[np.int32]

_TAIL_ITEMS = 20_000
_TAIL_RATIO = 0.05
"""Codes newer than the faiss index are scanned natively; it is rebuilt when they are more than both of these."""
_MASKED_RATIO = 0.25
"""faiss's inverted file and graph are asked for twice as many while no more than this is masked."""
_HNSW_LINKS = 32
_HNSW_SEARCH = 256
_IVF_PROBED = 1 / 8
"""Of the lists, by one search."""
_IVF_TRAINED = 64
"""Codes a list to train on; k-means costs lists x codes."""


class CodeIndex(Protocol):
    """Finds the nearest codes of one array whose slots are only ever appended."""

    name: str

    def search(
        self, codes: CodeArray, queries: CodeArray, k: int, *, mask: CodeArray | None, threads: int
    ) -> tuple[DistanceArray, SlotArray]:
        """The nearest slots by Hamming distance.

        Args:
            codes: (N, W) uint8, a prefix of the array.
            queries: (Q, W) uint8.
            mask: (ceil(N / 8),) uint8, packed in little bit order; only slots with a set bit count; None: all do.
        Returns:
            distances (Q, k) int32 and slots (Q, k) int64, nearest first, -1 where there are fewer.
        """
        ...

    def refresh(self, codes: CodeArray, *, wait: bool = False) -> None:
        """Take note that the array has grown; `wait` for what that sets off."""
        ...


def create_code_index(backend: str, items: int, *, ivf_above_items: int, threads: int) -> CodeIndex:
    """The backend that `backend` names; `auto` chooses by the number of items."""
    if backend == "auto":
        backend = "faiss-ivf" if items > ivf_above_items else "native"
    if backend == "native":
        return NativeCodes()
    return ReferenceCodes() if backend == "reference" else FaissCodes(backend, threads=threads)


class NativeCodes:
    """Linear scan by our kernel: exact, ties keep the lower slot."""

    name = "native"

    def search(
        self, codes: CodeArray, queries: CodeArray, k: int, *, mask: CodeArray | None, threads: int
    ) -> tuple[DistanceArray, SlotArray]:
        """See `CodeIndex.search`."""
        return native.scan(codes, queries, k, mask=mask, num_threads=threads)

    def refresh(self, codes: CodeArray, *, wait: bool = False) -> None:
        """Nothing: the scan reads the array itself."""


class ReferenceCodes:
    """The NumPy scan that the others are tested against."""

    name = "reference"

    def search(
        self, codes: CodeArray, queries: CodeArray, k: int, *, mask: CodeArray | None, threads: int
    ) -> tuple[DistanceArray, SlotArray]:
        """See `CodeIndex.search`."""
        return reference.scan(codes, queries, k, mask=mask, num_threads=threads)

    def refresh(self, codes: CodeArray, *, wait: bool = False) -> None:
        """Nothing: the scan reads the array itself."""


class FaissCodes:
    """A faiss index over a prefix of the codes, rebuilt in the background; newer codes are scanned natively.

    Of faiss's indexes only the flat one can be told which slots count. The others are asked for twice as many while
    few slots are masked; otherwise, or if too few are left, the native scan answers.
    """

    def __init__(self, backend: str, *, threads: int) -> None:
        import faiss  # here: it takes a third of a second, and the default backend does without

        self.name = backend
        self._faiss: Any = faiss
        self._threads = threads
        self._built: tuple[Any, int] = (None, 0)
        self._builder: threading.Thread | None = None
        self._lock = threading.Lock()

    def search(
        self, codes: CodeArray, queries: CodeArray, k: int, *, mask: CodeArray | None, threads: int
    ) -> tuple[DistanceArray, SlotArray]:
        """See `CodeIndex.search`."""
        index, built = self._built
        if index is None or built > len(codes):  # no index yet, or one that knows more than this reader may see
            return native.scan(codes, queries, k, mask=mask, num_threads=threads)
        self._faiss.omp_set_num_threads(threads)  # a setting of the calling thread
        found = self._search_built(index, built, queries, k, mask)
        if found is None:
            return native.scan(codes, queries, k, mask=mask, num_threads=threads)
        if built == len(codes):
            return found
        distances, slots = native.scan(codes, queries, k, mask=_only_from(built, len(codes), mask), num_threads=threads)
        return _merge(found, (distances, slots), k)

    def refresh(self, codes: CodeArray, *, wait: bool = False) -> None:
        """Rebuild in the background once the native tail is long."""
        with self._lock:
            tail = len(codes) - self._built[1]
            building = self._builder is not None and self._builder.is_alive()
            if tail > (0 if wait else max(_TAIL_ITEMS, _TAIL_RATIO * len(codes))) and not building:
                self._builder = threading.Thread(target=self._build, args=(codes,), name="code-index-build")
                self._builder.start()
            builder = self._builder
        if wait and builder is not None:
            builder.join()

    def _build(self, codes: CodeArray) -> None:
        self._faiss.omp_set_num_threads(self._threads)
        bits = codes.shape[1] * 8
        if self.name == "faiss-flat":
            index = self._faiss.IndexBinaryFlat(bits)
        elif self.name == "faiss-hnsw":
            index = self._faiss.IndexBinaryHNSW(bits, _HNSW_LINKS)
            index.hnsw.efSearch = _HNSW_SEARCH
        else:
            lists = max(1, round(len(codes) ** 0.5))
            index = self._faiss.IndexBinaryIVF(self._faiss.IndexBinaryFlat(bits), bits, lists)
            index.nprobe = max(1, round(lists * _IVF_PROBED))
            step = max(1, len(codes) // (_IVF_TRAINED * lists))
            index.train(np.ascontiguousarray(codes[::step]))
        index.add(codes)
        self._built = (index, len(codes))

    def _search_built(
        self, index: Any, built: int, queries: CodeArray, k: int, mask: CodeArray | None
    ) -> tuple[DistanceArray, SlotArray] | None:
        """The answer over the built prefix, or None where faiss finds too few under this mask."""
        if self.name == "faiss-flat":
            params = None
            if mask is not None:
                selector = self._faiss.IDSelectorBitmap(np.ascontiguousarray(mask[: (built + 7) // 8]))
                params = self._faiss.SearchParameters(sel=selector)
            return _as_arrays(index.search(queries, k, params=params))
        if mask is None:
            distances, slots = _as_arrays(index.search(queries, k))
        else:
            keep = np.unpackbits(mask, count=built, bitorder="little").astype(np.bool_)
            if built - int(keep.sum()) > _MASKED_RATIO * built:
                return None
            distances, slots = _drop_masked(*_as_arrays(index.search(queries, min(2 * k, built))), keep, k)
        return None if (slots < 0).any() else (distances, slots)  # what it looked at may hold fewer than wanted


def _as_arrays(found: tuple[Any, Any]) -> tuple[DistanceArray, SlotArray]:
    slots = np.asarray(found[1], np.int64)
    return np.where(slots < 0, -1, found[0]).astype(np.int32), slots


def _drop_masked(
    distances: DistanceArray, slots: SlotArray, keep: BoolArray, k: int
) -> tuple[DistanceArray, SlotArray]:
    """The first k results a query whose slots are kept; -1 where too few are left."""
    dropped = (slots < 0) | ~keep[slots]
    order = np.argsort(dropped, axis=1, kind="stable")[:, :k]
    gone = np.take_along_axis(dropped, order, 1)
    return (
        np.where(gone, -1, np.take_along_axis(distances, order, 1)).astype(np.int32),
        np.where(gone, -1, np.take_along_axis(slots, order, 1)),
    )


def _only_from(start: int, count: int, mask: CodeArray | None) -> CodeArray:
    """A packed mask of the slots from `start` on that `mask` allows."""
    keep = np.zeros(count, np.bool_)
    keep[start:] = True
    packed = np.packbits(keep, bitorder="little")
    return packed if mask is None else packed & mask


def _merge(
    first: tuple[DistanceArray, SlotArray], second: tuple[DistanceArray, SlotArray], k: int
) -> tuple[DistanceArray, SlotArray]:
    """The k nearest of two answers; ties keep the lower slot, -1 goes last."""
    distances = np.concatenate([first[0], second[0]], axis=1)
    slots = np.concatenate([first[1], second[1]], axis=1)
    far = np.where(slots < 0, np.iinfo(np.int32).max, distances)
    order = np.lexsort((slots, far), axis=1)[:, :k]
    return np.take_along_axis(distances, order, 1), np.take_along_axis(slots, order, 1)
