"""A multi-label problem whose answer is known, to see what a way of training a large softmax costs in quality."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from services.embedder.losses import RaggedLabels
from services.embedder.sharded_softmax import ShardedSoftmax

CLASSES, LABELS, LABELS_EACH = 1000, 2000, 3
FEATURES, HIDDEN, DIMENSION = 12, 96, 24
PICTURES, STEPS, HELD_OUT = 64, 400, 2000
TEMPERATURE, LEARNING_RATE, ROW_LEARNING_RATE = 0.1, 3e-3, 0.1


class LabelWorld:
    """Overlapping Gaussian classes of Zipf chances, each with 3 of 2,000 labels; a picture has its class's labels.

    Attributes:
        posterior: (HELD_OUT, LABELS) float32, the true p(label | features) of pictures that are not trained on.
        frequencies: (LABELS,) float32, expected pictures of each label in a training.
    """

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self._means = torch.randn(CLASSES, FEATURES, generator=generator)
        self._labels = torch.stack([torch.randperm(LABELS, generator=generator)[:LABELS_EACH] for _ in range(CLASSES)])
        chance = 1 / torch.arange(1.0, CLASSES + 1)
        self._chance = chance / chance.sum()
        target = torch.zeros(CLASSES, LABELS).scatter_(1, self._labels, 1 / LABELS_EACH)
        self._features, _ = self._draw(HELD_OUT, generator)
        distances = torch.cdist(self._features, self._means, compute_mode="donot_use_mm_for_euclid_dist")
        self.posterior = (self._chance.log() - distances.square() / 2).softmax(1) @ target
        self.frequencies = (self._chance @ target * LABELS_EACH * PICTURES * STEPS).numpy()

    def train(self, seed: int, **options: Any) -> Any:
        """(HELD_OUT, LABELS) log-probabilities of a small network under a head with these options of ShardedSoftmax."""
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, DIMENSION))
        head = ShardedSoftmax(LABELS, DIMENSION, temperature=TEMPERATURE, seed=seed, **options)
        optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
        generator = torch.Generator().manual_seed(seed + 1)
        offsets = torch.arange(PICTURES + 1) * LABELS_EACH
        for step in range(STEPS):
            features, classes = self._draw(PICTURES, generator)
            targets = RaggedLabels.from_arrays(offsets, self._labels[classes].flatten())
            optimizer.zero_grad()
            head(network(features), targets, step=step).backward()
            optimizer.step()
            head.update(ROW_LEARNING_RATE * (1 - step / STEPS))
        with torch.no_grad():
            return head.logits(network(self._features)).log_softmax(1)

    def judge(self, log_probabilities: Any) -> dict[str, float]:
        """Cross-entropy to the true posterior in nats, and the chance that the first label is one of the picture's."""
        first = log_probabilities.argmax(1, keepdim=True)
        seen = torch.where(self.posterior > 0, self.posterior * log_probabilities, 0)
        return {
            "cross_entropy": round(-seen.sum(1).mean().item(), 4),
            "precision_at_1": round(LABELS_EACH * self.posterior.gather(1, first).mean().item(), 4),
        }

    def _draw(self, count: int, generator: torch.Generator) -> tuple[Any, Any]:
        """Features (count, FEATURES) and classes (count,)."""
        classes = torch.multinomial(self._chance, count, replacement=True, generator=generator)
        noise = torch.randn(count, FEATURES, generator=generator)
        return self._means[classes] + noise, classes
