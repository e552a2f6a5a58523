"""A linear probe: how much of a labelling a plane can read off frozen embeddings.

Multinomial logistic regression with an L2 penalty, fitted by L-BFGS to convergence: it has no seed and no schedule, so
two embeddings are compared and not two trainings.

Legend: N pictures, D dimensions, C classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

IntArray = npt.NDArray[np.int64]

PENALTY = 1e-3  # of the squared weights, beside the mean loss
ITERATIONS = 100


def fit_and_predict(
    embeddings: npt.NDArray[np.floating],
    labels: IntArray,
    queries: npt.NDArray[np.floating],
    *,
    penalty: float = PENALTY,
) -> IntArray:
    """(Q,) the class of each query, by a probe fitted on labelled embeddings.

    Args:
        embeddings: (N, D); each dimension is brought to mean 0 and deviation 1 first, as measured on these.
        labels: (N,) int64 in [0, C).
        queries: (Q, D).
        penalty: of the squared weights; the bias is free.
    """
    mean, deviation = embeddings.mean(axis=0), embeddings.std(axis=0) + 1e-6
    inputs = torch.from_numpy(((embeddings - mean) / deviation).astype(np.float32))
    targets, classes = torch.from_numpy(labels), int(labels.max()) + 1
    weight = torch.zeros(classes, inputs.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(inputs @ weight.T + bias, targets) + penalty * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        scores = torch.from_numpy(((queries - mean) / deviation).astype(np.float32)) @ weight.T + bias
    return np.asarray(scores.argmax(dim=1).numpy(), np.int64)
