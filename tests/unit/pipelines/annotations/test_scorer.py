import dataclasses
import json

import numpy as np
import pytest

from bowerbird.errors import ArgumentInvalid, ModelFileCorrupt
from pipelines.annotations.measures import measure_auc
from pipelines.annotations.scorer import Scorer, ScorerOptions, fit_calibration, fit_trees, load_scorer, save_scorer

OPTIONS = ScorerOptions(rounds=10, leaves=4, min_leaf=5, threads=1)
TABLE = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
LABELS = (TABLE[:, 0] > 0.5).astype(np.float64)


def make_scorer():
    trees = fit_trees(TABLE[:200], LABELS[:200], OPTIONS)
    knots, values = fit_calibration(trees.predict(TABLE[200:], raw_score=True), LABELS[200:])
    return Scorer(trees.model_to_string(), ("signal", "noise"), ("tags",), knots, values, ("title*",), "digest")


def test_relevant_candidates_score_higher_and_noise_has_no_importance():
    scorer = make_scorer()
    scores = scorer.score(TABLE)
    assert scores.dtype == np.float32
    assert measure_auc(LABELS, scores.astype(np.float64)) > 0.99
    assert ((scores > 0) & (scores < 1)).all()
    assert scorer.list_importances()[0][0] == "signal"
    assert sum(share for _, share in scorer.list_importances()) == pytest.approx(1)


def test_no_candidates_have_no_scores():
    assert make_scorer().score(np.zeros((0, 2), np.float32)).shape == (0,)


def test_training_is_the_same_every_time():
    assert make_scorer().sha256 == make_scorer().sha256


def test_calibration_never_falls_and_gives_the_rates_of_the_held_out_part():
    generator = np.random.default_rng(1)
    raw = generator.normal(size=4000)
    labels = (generator.random(4000) < 1 / (1 + np.exp(-3 * raw))).astype(np.float64)
    knots, values = fit_calibration(raw, labels)
    assert (np.diff(knots) > 0).all()
    assert (np.diff(values) >= 0).all()
    calibrated = np.interp(raw, knots, values)
    assert calibrated.mean() == pytest.approx(labels.mean(), abs=0.01)
    assert np.interp([-1.0, 1.0], knots, values) == pytest.approx([0.047, 0.953], abs=0.04)


def test_calibration_of_equal_scores_is_their_rate_in_any_order():
    for labels in ([0.0, 0.0, 1.0], [1.0, 0.0, 0.0]):
        knots, values = fit_calibration(np.zeros(3), np.array(labels))
        assert knots == (0.0,)
        assert values == pytest.approx((1 / 3,))


def test_a_scorer_comes_back_from_its_file(tmp_path):
    scorer = make_scorer()
    loaded = load_scorer(save_scorer(scorer, tmp_path / "scorer.json"))
    assert loaded.sha256 == scorer.sha256
    np.testing.assert_array_equal(loaded.score(TABLE), scorer.score(TABLE))


def test_files_that_are_no_scorers_are_refused(tmp_path):
    path = tmp_path / "scorer.json"
    whole = {"format": 1, **dataclasses.asdict(make_scorer())}
    for content in ("", "[]", "{}", json.dumps({**whole, "format": 9}), json.dumps({**whole, "more": 1})):
        path.write_text(content)
        with pytest.raises(ModelFileCorrupt, match=r"scorer\.json"):
            load_scorer(path)
    with pytest.raises(ModelFileCorrupt, match="missing"):
        load_scorer(tmp_path / "missing.json")
    with pytest.raises(ModelFileCorrupt, match="LightGBM"):
        dataclasses.replace(make_scorer(), booster="no trees").score(TABLE)


@pytest.mark.parametrize("labels", [np.zeros(400), np.ones(400), np.zeros(0)])
def test_labels_of_one_kind_teach_nothing(labels):
    with pytest.raises(ArgumentInvalid, match="expected relevant and other candidates"):
        fit_trees(TABLE[: len(labels)], labels, OPTIONS)


def test_calibration_needs_candidates():
    with pytest.raises(ArgumentInvalid, match="too few groups"):
        fit_calibration(np.zeros(0), np.zeros(0))
