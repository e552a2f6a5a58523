"""Groups of vectors by weighted spherical k-means, split and merged until each is of a wanted size.

Legend: N labels, D dimension, K groups. Every function is deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

ITERATIONS = 25  # of k-means; the assignments of a few thousand labels stand still after about fifteen


def group_vectors(vectors: FloatArray, weights: FloatArray, groups: int, *, seed: int) -> IntArray:
    """(N,) int64 in [0, groups): the group of each vector by spherical k-means; a group may be empty.

    Args:
        vectors: (N, D) float32, unit length.
        weights: (N,) float32, positive: how much a vector counts for the centre of its group.
        groups: at least 1; N or more leave every vector alone.
        seed: of the first centres.
    Source: Dhillon and Modha, Concept decompositions for large sparse text data using clustering, 2001.
    """
    if groups >= len(vectors):
        return np.arange(len(vectors), dtype=np.int64)
    kmeans = faiss.Kmeans(
        vectors.shape[1],
        groups,
        niter=ITERATIONS,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,  # a group of one is welcome: a frequent label
        max_points_per_centroid=len(vectors),  # no sampling
    )
    kmeans.train(vectors, weights=weights)
    return np.asarray(kmeans.index.search(vectors, 1)[1][:, 0], np.int64)


class Balancer:
    """Splits groups of labels with too many pictures and merges groups with too few.

    A picture counts once for a group, however many of its labels are in it.
    """

    def __init__(
        self,
        vectors: FloatArray,
        weights: FloatArray,
        pictures: Sequence[IntArray],
        *,
        min_pictures: int,
        max_pictures: int,
        seed: int,
    ) -> None:
        """
        Args:
            vectors: (N, D) float32, unit length.
            weights: (N,) float32, positive.
            pictures: N arrays: numbers of the pictures of each label, each once.
            min_pictures: a smaller group joins its nearest neighbour.
            max_pictures: a larger group is split, unless it is a single label.
            seed: of the k-means that splits.
        """
        self._vectors, self._weights, self._pictures = vectors, weights, pictures
        self._min, self._max, self._seed = min_pictures, max_pictures, seed

    def balance(self, groups: IntArray) -> IntArray:
        """(N,) int64: other groups, numbered from 0 without gaps, of the same labels.

        Each has `min_pictures` at least, if all pictures together do. A group has more than `max_pictures` only if it
        is a single label, or had to take in one that is too small and nothing smaller was left: the lower bound wins.
        """
        members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
        parts = [part for group in members for part in self._split(group)]
        balanced = np.empty(len(groups), np.int64)
        for number, part in enumerate(self._merge(parts)):
            balanced[part] = number
        return balanced

    def _split(self, members: IntArray) -> list[IntArray]:
        size = len(self._find_pictures(members))
        if size <= self._max or len(members) == 1:
            return [members]
        parts = group_vectors(self._vectors[members], self._weights[members], -(-size // self._max), seed=self._seed)
        found = [members[parts == part] for part in np.unique(parts)]
        if len(found) == 1:  # vectors that are all the same
            return [members]
        return [piece for part in found for piece in self._split(part)]

    def _merge(self, parts: list[IntArray]) -> list[IntArray]:
        """Smallest first, each into the nearest group that stays below the upper bound, else into the nearest."""
        alive = dict(enumerate(parts))
        pictures = {number: self._find_pictures(part) for number, part in alive.items()}
        centres = np.stack([self._find_centre(part) for part in parts])
        while len(alive) > 1:
            smallest = min(alive, key=lambda number: (len(pictures[number]), number))
            if len(pictures[smallest]) >= self._min:
                break
            order = np.argsort(-(centres @ centres[smallest]), kind="stable")
            others = [int(number) for number in order if number != smallest and int(number) in alive]
            unions = ((other, pictures[smallest] | pictures[other]) for other in others)
            target = next((other for other, union in unions if len(union) <= self._max), others[0])
            alive[target] = np.concatenate([alive[target], alive.pop(smallest)])
            pictures[target] |= pictures.pop(smallest)
            centres[target] = self._find_centre(alive[target])
        return list(alive.values())

    def _find_pictures(self, members: IntArray) -> set[int]:
        return set(np.concatenate([self._pictures[label] for label in members]).tolist())

    def _find_centre(self, members: IntArray) -> FloatArray:
        """(D,) float32, unit length, unless the vectors cancel out."""
        centre = self._weights[members] @ self._vectors[members]
        return np.asarray(centre / max(float(np.linalg.norm(centre)), 1e-12), np.float32)


def shuffle_groups(groups: IntArray, counts: IntArray, *, seed: int) -> IntArray:
    """(N,) int64: the same groups with other labels in them: what is left of clustering without its meaning.

    A label changes places only with labels of its own frequency (the same power of two), so that every group keeps
    its number of labels and nearly its number of pictures, and frequent labels that are alone stay alone.

    Args:
        groups: (N,) int64.
        counts: (N,) int64, pictures of each label, at least 1.
        seed: of the permutations.
    """
    generator = np.random.default_rng(seed)
    shuffled = groups.copy()
    octaves = np.floor(np.log2(counts)).astype(np.int64)
    for octave in np.unique(octaves):
        places = np.flatnonzero(octaves == octave)
        shuffled[places] = groups[generator.permutation(places)]
    return shuffled


def add_noise(vectors: FloatArray, scale: float, *, seed: int) -> FloatArray:
    """(N, D) float32, unit length: vectors moved in random directions by `scale` of their length.

    At 1.0 the cosine to the original is 0.71 on average, at 2.0 it is 0.45.
    """
    noise = np.random.default_rng(seed).standard_normal(vectors.shape).astype(np.float32)
    moved = vectors + scale * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True), np.float32)
