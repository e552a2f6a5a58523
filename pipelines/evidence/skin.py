"""The classical measure beside the trained head on drawn tones: the angle of the skin's colour, and the nearest tone.

For each tone the mean angle over the training pictures is its centre, and a picture has the tone whose centre is the
nearest to its angle. A picture without an angle gets the tone that is commonest.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bowerbird import images
from bowerbird.models.skin_tone import measure_tone

from .bench import TRAIN, Bench
from .examine import FloatArray, Representation
from .results import digest, keep_array


@dataclass(frozen=True)
class TypologyAngle:
    """Tones by the individual typology angle.

    Attributes:
        split: the column that says which pictures the centres are taken from.
        column: of the tones.
        task: name under which the scores are given.
    """

    split: str
    column: str = "tone"
    task: str = "tone"

    is_seeded: ClassVar[bool] = False

    def represent(self, bench: Bench, _seed: int) -> Representation:
        """Scores of the tones for every picture that has one: minus the distance of its angle to the tone's centre."""
        tones, angles = bench.columns[self.column], compute_angles(bench, self.column)
        trains = np.array([side == TRAIN for side in bench.columns[self.split]])
        names = sorted({tone for tone, train in zip(tones, trains, strict=True) if tone and train})
        own = np.array([tone or "" for tone in tones])
        centres = np.array([np.nanmean(angles[trains & (own == name)]) for name in names])
        scores = -np.abs(angles[:, None] - centres[None]).astype(np.float32)
        commonest = Counter(own[trains & (own != "")].tolist()).most_common(1)[0][0]
        scores[np.isnan(angles)] = np.array([name == commonest for name in names], np.float32)
        return Representation(np.zeros((len(own), 1), np.float32), {self.task: scores}, {self.task: names})


def compute_angles(bench: Bench, column: str) -> FloatArray:
    """(N,) float32 degrees of the pictures that have a tone, NaN for the others and where there is no skin; kept."""
    file = bench.place.work / "features" / f"ita-{digest(bench.columns['picture'], bench.columns[column])}.npy"
    if not file.exists():
        angles = np.full(len(bench.columns[column]), np.nan, np.float32)
        for row, tone in enumerate(bench.columns[column]):
            if tone:
                angles[row] = measure_tone(images.decode(bench.pictures.read(row)).pixels).angle
        keep_array(file, angles)
    return np.asarray(np.load(file), np.float32)
