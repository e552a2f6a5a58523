import numpy as np
import pytest

from pipelines.clusters.grouping import Balancer, FloatArray, IntArray, add_noise, group_vectors, shuffle_groups


def at_degrees(*degrees: float) -> FloatArray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def numbered(*sizes: int) -> list[IntArray]:
    """Pictures of labels that share none."""
    ends = np.cumsum(sizes)
    return [np.arange(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def make_balancer(vectors: FloatArray, pictures: list[IntArray], low: int, high: int, *weights: float) -> Balancer:
    chosen = np.array(weights or np.ones(len(vectors)), np.float32)
    return Balancer(vectors, chosen, pictures, min_pictures=low, max_pictures=high, seed=0)


def partition(groups: IntArray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(groups == group).tolist()) for group in np.unique(groups)}


def test_vectors_of_one_direction_share_a_group() -> None:
    """Two directions, two groups; the same again with the same seed."""
    vectors = at_degrees(0, 5, 90, 95, 3)
    groups = group_vectors(vectors, np.ones(5, np.float32), 2, seed=0)
    assert partition(groups) == {frozenset({0, 1, 4}), frozenset({2, 3})}
    np.testing.assert_array_equal(groups, group_vectors(vectors, np.ones(5, np.float32), 2, seed=0))


def test_as_many_groups_as_vectors_leave_each_alone() -> None:
    """More groups than vectors are no fault."""
    assert group_vectors(at_degrees(0, 0), np.ones(2, np.float32), 5, seed=0).tolist() == [0, 1]


def test_a_small_group_joins_its_nearest_neighbour() -> None:
    """The one with too few pictures goes where its meaning is; the others stay apart."""
    balancer = make_balancer(at_degrees(0, 90, 70), numbered(9, 9, 1), 5, 100)
    assert partition(balancer.balance(np.array([0, 1, 2]))) == {frozenset({0}), frozenset({1, 2})}


def test_a_centre_leans_to_what_weighs_more() -> None:
    """Of two groups with their labels on either side, the one whose heavy label is near takes the small group in."""
    vectors, groups = at_degrees(20, 80, -30, -70, 0), np.array([0, 0, 1, 1, 2])
    pictures = numbered(9, 9, 9, 9, 1)
    near_first = make_balancer(vectors, pictures, 5, 100, 9, 1, 1, 9, 1).balance(groups)
    near_second = make_balancer(vectors, pictures, 5, 100, 1, 9, 9, 1, 1).balance(groups)
    assert partition(near_first) == {frozenset({0, 1, 4}), frozenset({2, 3})}
    assert partition(near_second) == {frozenset({0, 1}), frozenset({2, 3, 4})}


def test_a_small_group_does_not_make_another_too_large() -> None:
    """The nearest group that has room takes it in; if none has, the nearest: the lower bound wins."""
    vectors, groups, pictures = at_degrees(0, 90, 70), np.array([0, 1, 2]), numbered(6, 9, 2)
    assert partition(make_balancer(vectors, pictures, 5, 10).balance(groups)) == {frozenset({0, 2}), frozenset({1})}
    assert partition(make_balancer(vectors, pictures, 5, 7).balance(groups)) == {frozenset({0}), frozenset({1, 2})}


def test_a_large_group_is_split_by_meaning() -> None:
    """But a single label with many pictures stays what it is."""
    vectors, pictures = at_degrees(0, 2, 90, 92, 180), numbered(5, 5, 5, 5, 50)
    balanced = make_balancer(vectors, pictures, 1, 10).balance(np.array([0, 0, 0, 0, 1]))
    assert partition(balanced) == {frozenset({0, 1}), frozenset({2, 3}), frozenset({4})}


@pytest.mark.timeout(60)
def test_splitting_labels_of_the_same_vector_comes_to_an_end() -> None:
    """A group without any meaning to split by is not split forever, and loses no label."""
    balanced = make_balancer(at_degrees(0, 0, 0), numbered(5, 5, 5), 1, 6).balance(np.zeros(3, np.int64))
    assert set().union(*partition(balanced)) == {0, 1, 2}


def test_a_picture_counts_once_for_a_group() -> None:
    """Two labels of the same three pictures are a group of three."""
    same = np.arange(3)
    balanced = make_balancer(at_degrees(0, 1, 90), [same, same, np.arange(3, 9)], 4, 100).balance(np.array([0, 0, 1]))
    assert partition(balanced) == {frozenset({0, 1, 2})}


def test_too_few_pictures_for_the_bound_make_one_group() -> None:
    """When all pictures together are fewer than the bound, everything is one group."""
    assert set(make_balancer(at_degrees(0, 90), numbered(1, 1), 10, 20).balance(np.array([0, 1])).tolist()) == {0}


@pytest.mark.parametrize("seed", range(4))
def test_bounds_hold_for_many_labels(seed: int) -> None:
    """Labels of Zipf's frequencies: no group is too small, and none is too large without need."""
    generator = np.random.default_rng(seed)
    vectors = generator.standard_normal((300, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pictures = [generator.choice(2000, max(1, 400 // (rank + 1)), replace=False) for rank in range(300)]
    groups = group_vectors(vectors, np.ones(300, np.float32), 75, seed=seed)
    balanced = make_balancer(vectors, pictures, 20, 60).balance(groups)
    for group in partition(balanced):
        size = len(set(np.concatenate([pictures[label] for label in group]).tolist()))
        assert size >= 20
        assert size <= 60 or len(group) == 1


def test_shuffled_groups_keep_their_sizes() -> None:
    """Every group has as many labels as before, of each frequency, and other ones."""
    generator = np.random.default_rng(0)
    groups, counts = generator.integers(0, 30, 400), generator.integers(1, 200, 400)
    shuffled = shuffle_groups(groups, counts, seed=1)
    octaves = np.floor(np.log2(counts))
    for octave in np.unique(octaves):
        np.testing.assert_array_equal(np.sort(groups[octaves == octave]), np.sort(shuffled[octaves == octave]))
    assert np.mean(shuffled == groups) < 0.2
    np.testing.assert_array_equal(shuffled, shuffle_groups(groups, counts, seed=1))


def test_noise_turns_vectors_by_its_scale() -> None:
    """At scale 1 the mean cosine is 0.71, at 2 it is 0.45, at 0 nothing moves."""
    vectors = np.eye(384, dtype=np.float32)
    for scale, cosine in ((0.0, 1.0), (1.0, 0.707), (2.0, 0.447)):
        noisy = add_noise(vectors, scale, seed=0)
        assert (vectors * noisy).sum(axis=1).mean() == pytest.approx(cosine, abs=0.01)
        np.testing.assert_allclose(np.linalg.norm(noisy, axis=1), 1.0, atol=1e-5)
