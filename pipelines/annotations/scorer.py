"""How relevant a term is to a picture: gradient-boosted trees (LightGBM), calibrated on pictures that they did not see.

A score is the probability that the picture's clean metadata say the term too. A term that they do not say may be
relevant all the same, so scores are low rather than high. One JSON file holds trees, calibration and what they were
trained on; it is never unpickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from bowerbird.errors import ArgumentInvalid, ModelFileCorrupt
from pipelines.annotations.files import write_text

FloatArray = npt.NDArray[np.float64]
FORMAT = 1
_MIN_SCORE, _MAX_SCORE = 1e-4, 1 - 1e-4  # a finite sample proves nothing impossible, and nothing certain


@dataclasses.dataclass(frozen=True)
class ScorerOptions:
    """Size of the trees; the defaults suit thousands of judged candidates."""

    rounds: int = 200
    learning_rate: float = 0.05
    leaves: int = 15
    min_leaf: int = 50  # candidates
    seed: int = 0
    threads: int = 2


@dataclasses.dataclass(frozen=True)
class Scorer:
    """A trained scorer.

    Attributes:
        booster: LightGBM's text form of the trees.
        features: names of the columns that they read.
        kinds: kinds of fields that have a column.
        knots: raw scores, ascending, and `values`, the relevance there; between them it is linear.
        label_fields: patterns of the fields that were the labels, never the evidence.
        dictionary_sha256: of the dictionary that it was trained with.
        trained_on: counts and measures, for people.
    """

    booster: str
    features: tuple[str, ...]
    kinds: tuple[str, ...]
    knots: tuple[float, ...]
    values: tuple[float, ...]
    label_fields: tuple[str, ...]
    dictionary_sha256: str
    trained_on: dict[str, Any] = dataclasses.field(default_factory=dict)

    @cached_property
    def sha256(self) -> str:
        """Digest of all that scores depend on."""
        parts = [self.booster, self.features, self.kinds, self.knots, self.values, self.label_fields]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @cached_property
    def _trees(self) -> Any:
        try:
            return lightgbm.Booster(model_str=self.booster)
        except lightgbm.basic.LightGBMError as error:
            raise ModelFileCorrupt(
                f"expected trees in LightGBM's text form: {error}; train the scorer again"
            ) from error

    def score(self, table: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(M,) float32 relevance in (0, 1) of candidates.

        Args:
            table: (M, F) float32, columns as in `features`.
        """
        if not len(table):
            return np.zeros(0, np.float32)
        raw = self._trees.predict(table, raw_score=True)
        scores = np.interp(raw, self.knots, self.values).clip(_MIN_SCORE, _MAX_SCORE)
        return np.asarray(scores, np.float32)

    def list_importances(self) -> list[tuple[str, float]]:
        """Share of each feature in the trees' total gain, largest first."""
        gains = self._trees.feature_importance("gain")
        total = gains.sum() or 1.0
        return sorted(zip(self.features, (gains / total).tolist(), strict=True), key=lambda pair: -pair[1])


def fit_trees(table: npt.NDArray[np.float32], labels: FloatArray, options: ScorerOptions) -> Any:
    """LightGBM trees, the same on every run.

    Args:
        table: (M, F) float32.
        labels: (M,) 0 or 1, both present.
        options: size of the trees.
    Raises:
        ArgumentInvalid: there are no candidates, or all have the same label.
    """
    if len(set(labels.tolist())) < 2:
        raise ArgumentInvalid(
            f"expected relevant and other candidates to learn from, got {int(labels.sum())} relevant of {len(labels)}; "
            "name the label fields with --label-fields, and check that their words are in the dictionary"
        )
    parameters = {
        "objective": "binary",
        "learning_rate": options.learning_rate,
        "num_leaves": options.leaves,
        "min_data_in_leaf": options.min_leaf,
        "seed": options.seed,
        "num_threads": options.threads,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }
    data = lightgbm.Dataset(table, labels, free_raw_data=False)  # by number: names of fields may be any text
    return lightgbm.train(parameters, data, num_boost_round=options.rounds)


def fit_calibration(raw: FloatArray, labels: FloatArray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Knots and values of the isotonic fit of relevance on raw scores (Zadrozny & Elkan 2002).

    Each level of the fit gives the knots at its two ends, so that the map is linear between levels and never falls.

    Raises:
        ArgumentInvalid: no candidates to calibrate on.
    """
    if not len(raw):
        raise ArgumentInvalid("expected candidates to calibrate on, got none; the table has too few groups of pictures")
    knots, place, count = np.unique(raw, return_inverse=True, return_counts=True)
    rates = np.bincount(place, labels) / count
    fit = isotonic_regression(rates, weights=count)
    ends = np.unique(np.concatenate([fit.blocks[:-1], fit.blocks[1:] - 1]))
    return tuple(knots[ends].tolist()), tuple(fit.x[ends].tolist())


def save_scorer(scorer: Scorer, path: Path) -> Path:
    """`path`, which holds the scorer now."""
    content = {"format": FORMAT, **dataclasses.asdict(scorer)}
    return write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def load_scorer(path: Path) -> Scorer:
    """A scorer that `save_scorer` wrote.

    Raises:
        ModelFileCorrupt: the file is not one.
    """
    try:
        raw = json.loads(path.read_bytes())
        if raw.pop("format") != FORMAT:
            raise ValueError(f"expected format {FORMAT}")
        lists = ("features", "kinds", "knots", "values", "label_fields")
        return Scorer(**{**raw, **{name: tuple(raw[name]) for name in lists}})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileCorrupt(f"{path}: expected a scorer of annotations: {error}; train it again") from error
