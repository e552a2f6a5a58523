"""Scan backends against each other, on any codes and mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.retrieval.codes import CodeIndex, create_code_index

RECALL_FLOOR = 0.8  # of the approximate backends, on clustered codes, where they are made to work


def make(backend: str) -> CodeIndex:
    return create_code_index(backend, 0, ivf_above_items=1 << 40, threads=1)


def clustered(count: int, words: int, seed: int) -> np.ndarray:
    """Codes near 16 centres, as those of real pictures are, with a few equal ones."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 256, (16, 8 * words), np.uint8)
    noise = rng.integers(0, 256, (count, 8 * words), np.uint8) & rng.integers(0, 256, (count, 8 * words), np.uint8)
    noise &= rng.integers(0, 256, noise.shape, np.uint8)
    return centres[rng.integers(0, 16, count)] ^ noise


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    count=st.integers(0, 200),
    words=st.sampled_from([1, 2, 4, 8]),
    queries=st.integers(1, 4),
    k=st.integers(1, 250),
    built=st.integers(0, 200),
    share=st.sampled_from([None, 0.0, 0.1, 0.9, 1.0]),
    seed=st.integers(0, 1000),
)
@pytest.mark.parametrize("backend", ["native", "faiss-flat"])
def test_exact_backends_agree_with_the_reference(
    backend: str, count: int, words: int, queries: int, k: int, built: int, share: float | None, seed: int
) -> None:
    """Same distances and, but for ties, same slots: also where the index knows a part of the codes only."""
    codes, wanted = clustered(count, words, seed), clustered(queries, words, seed + 1)
    allowed = np.ones(count, np.bool_) if share is None else np.random.default_rng(seed).random(count) < share
    mask = None if share is None else np.packbits(allowed, bitorder="little")
    index = make(backend)
    if built and count:
        index.refresh(codes[: min(built, count)], wait=True)
    distances, slots = index.search(codes, wanted, k, mask=mask, threads=1)
    expected, _ = make("reference").search(codes, wanted, k, mask=mask, threads=1)
    np.testing.assert_array_equal(distances, expected)
    found = slots >= 0
    assert (found == (distances >= 0)).all()
    for row, query in enumerate(wanted):
        chosen = slots[row][found[row]]
        assert len(set(chosen.tolist())) == len(chosen)
        assert allowed[chosen].all()
        hamming = np.unpackbits(codes[chosen] ^ query, axis=1).sum(axis=1)
        np.testing.assert_array_equal(hamming, distances[row][found[row]])


@pytest.mark.parametrize("backend", ["faiss-ivf", "faiss-hnsw"])
@pytest.mark.parametrize("share", [None, 0.95, 0.5, 0.01])
def test_approximate_backends_respect_the_mask(backend: str, share: float | None) -> None:
    """They find most of the nearest, never a masked slot, and fill the answer whatever the mask leaves."""
    codes, wanted = np.split(clustered(5020, 4, 1), [5000])
    allowed = np.ones(5000, np.bool_) if share is None else np.random.default_rng(3).random(5000) < share
    mask = None if share is None else np.packbits(allowed, bitorder="little")
    index = make(backend)
    index.refresh(codes[:4500], wait=True)
    _, slots = index.search(codes, wanted, 20, mask=mask, threads=1)
    _, expected = make("native").search(codes, wanted, 20, mask=mask, threads=1)
    assert (slots >= 0).all()
    assert allowed[slots].all()
    hits = [len(set(row.tolist()) & set(truth.tolist())) / 20 for row, truth in zip(slots, expected, strict=True)]
    assert np.mean(hits) >= RECALL_FLOOR


@pytest.mark.parametrize("backend", ["faiss-ivf", "faiss-hnsw"])
def test_approximate_backends_give_as_many_as_there_are(backend: str) -> None:
    """Also where the part of the index that a search looks at holds fewer than are wanted."""
    codes, wanted = np.split(clustered(5020, 4, 1), [5000])
    index = make(backend)
    index.refresh(codes, wait=True)
    for k in (1000, 5000):
        _, slots = index.search(codes, wanted, k, mask=None, threads=1)
        assert (slots >= 0).all()
