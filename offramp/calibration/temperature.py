"""One temperature an exit: what its gate says becomes a probability that can be compared between exits.

Guo et al., arXiv 1706.04599: logits are divided by the number that makes what happened likeliest.

Shapes: N positions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

Floats = NDArray[np.float64]
COLDEST, HOTTEST = 0.02, 50.0


def fit_temperature(logits_N: Floats, right_N: Floats) -> float:
    """The temperature of least negative log-likelihood, between 0.02 and 50. right_N: whether the exit's token was the
    full model's. Infinite logits say nothing of it and are left out; 1.0 where nothing can be learned."""
    finite = np.isfinite(logits_N)
    logits_N, right_N = logits_N[finite], right_N[finite]
    if not len(logits_N) or right_N.min() == right_N.max():
        return 1.0
    found = minimize_scalar(
        lambda log_heat: nll(logits_N / np.exp(log_heat), right_N),
        bounds=(np.log(COLDEST), np.log(HOTTEST)),
        method="bounded",
    )
    return float(np.exp(found.x))


def nll(logits_N: Floats, right_N: Floats) -> float:
    """Mean nats with which the logits foresee what happened."""
    return float(np.mean(np.logaddexp(0, logits_N) - right_N * logits_N))


def sigmoid(logits: Floats | float) -> Floats:
    """1 / (1 + exp(-x)) without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(np.asarray(logits, dtype=np.float64) / 2)))
