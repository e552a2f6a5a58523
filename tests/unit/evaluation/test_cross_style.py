"""Cross-style retrieval: which pictures are queries, which the gallery, and where the right answers stand."""

import numpy as np
import pytest

from bowerbird import evaluation
from bowerbird.errors import ArgumentInvalid
from bowerbird.evaluation import Pictures
from bowerbird.vectors import normalize, pack_code


def make_pictures(noise: float, *, dimension: int = 64) -> Pictures:
    """Three styles of 20 concepts, the embedding of each being that of its concept and some noise."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((20, dimension))
    styles, concepts, rows = [], [], []
    for style in ("ink", "oil", "clay"):
        for number, centre in enumerate(centres):
            styles.append(style)
            concepts.append(f"thing-{number:02}")
            rows.append(centre + noise * generator.standard_normal(dimension))
    vectors = np.array(rows, np.float32)
    return Pictures(styles, concepts, normalize(vectors), pack_code(vectors))


def test_a_hand_made_pair_has_the_standings_one_counts() -> None:
    """Of three concepts one is found, one is beaten by one other, and one ties with one other."""
    gallery = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], np.float32)
    queries = np.array([[1.0, 0.0], [1.0, 0.0], [0.3, 0.9]], np.float32)
    queries[2] = gallery[1] + gallery[2]  # as near to the second as to the third
    pictures = Pictures(["q"] * 3 + ["g"] * 3, ["a", "b", "c"] * 2, np.concatenate([queries, gallery]))
    standings = evaluation.rank_pairs(pictures, [("q", "g")])
    assert standings.better.tolist() == [0, 1, 0]
    assert standings.tied.tolist() == [0, 0, 1]
    assert standings.recall(1).tolist() == [1.0, 0.0, 0.5]
    assert standings.chance == pytest.approx(1 / 3)


def test_codes_are_ranked_by_hamming_distance() -> None:
    """The standings by codes are those of the counted bits."""
    pictures = make_pictures(1.5)
    standings = evaluation.rank_pairs(pictures, [("ink", "oil")])
    assert pictures.codes is not None
    query, gallery = pictures.codes[:20], pictures.codes[20:40]
    distance = np.unpackbits(query[:, None] ^ gallery[None], axis=2).sum(axis=2, dtype=np.int64)
    own = np.diagonal(distance)[:, None]
    assert standings.code_better is not None
    assert standings.code_tied is not None
    assert standings.code_better.tolist() == (distance < own).sum(axis=1).tolist()
    assert standings.code_tied.tolist() == ((distance == own).sum(axis=1) - 1).tolist()


def test_what_is_not_asked_for_is_neither_query_nor_gallery() -> None:
    """With half of the concepts the gallery is half as large, so chance is twice as good."""
    pictures, pairs = make_pictures(0.1), [("ink", "oil"), ("oil", "ink"), ("ink", "stone")]
    every = evaluation.rank_pairs(pictures, pairs)
    half = evaluation.rank_pairs(pictures, pairs, keep=lambda concept: int(concept[6:]) < 10)
    assert (len(every.concepts), len(half.concepts)) == (40, 20)
    assert half.chance == pytest.approx(2 * every.chance)
    assert every.pairs == (("ink", "oil"), ("oil", "ink"))  # nobody draws in stone
    assert every.recall(1).mean() == every.code_recall(1).mean() == 1.0


def test_one_vector_for_all_is_no_better_than_chance() -> None:
    """A model that has collapsed gets 1 in 20, by vectors and by codes, and not the 20 of 20 of lucky ties."""
    good = make_pictures(0.1)
    flat = Pictures(good.styles, good.concepts, np.ones_like(good.embeddings), np.zeros((60, 8), np.uint8))
    standings = evaluation.rank_pairs(flat, [("ink", "oil")])
    assert standings.recall(1).mean() == pytest.approx(standings.chance)
    assert standings.code_recall(10).mean() == pytest.approx(0.5)


def test_vectors_that_are_not_finite_are_refused() -> None:
    """Nothing compares as better than NaN: a broken model would find everything."""
    broken = make_pictures(0.1)
    broken.embeddings[23] = np.nan
    with pytest.raises(ArgumentInvalid, match="'thing-03' in style 'oil' is not finite"):
        evaluation.rank_pairs(broken, [("ink", "oil")])
    assert len(evaluation.rank_pairs(broken, [("ink", "clay")]).concepts) == 20  # nobody asks for it


def test_concepts_of_one_family_are_one_cluster() -> None:
    """The sample has one cluster a concept, or one a family."""
    standings = evaluation.rank_pairs(make_pictures(0.1), [("ink", "oil"), ("oil", "clay")])
    assert standings.sample(standings.recall(1)).sizes.tolist() == [[2.0] * 20]
    families = standings.sample(standings.recall(1), lambda concept: concept[-1])
    assert families.sizes.tolist() == [[4.0] * 10]


def test_no_shared_concept_leaves_nothing() -> None:
    """Pairs without a common concept give no query instead of failing."""
    standings = evaluation.rank_pairs(make_pictures(0.1), [("ink", "stone")])
    assert standings.pairs == ()
    assert len(standings.recall(1)) == 0
