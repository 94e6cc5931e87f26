"""How good a gate and a bridge are on tokens they were not trained on.

Shapes: N tokens. values_N: gate values in [0, 1]; labels_N: bool.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GateMetrics:
    """At threshold 0.5, but auroc. None where the quantity is undefined: no token leaves, one class only, no tokens.

    positive_rate: of labels.   leave_rate: of decisions.   agreement: the exit's token is the full model's.
    """

    accuracy: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    auroc: float | None
    positive_rate: float | None
    leave_rate: float | None
    agreement: float | None


@dataclass(frozen=True)
class BridgeMetrics:
    """What a bridge with weights gained over the hidden state as it is; `GateMetrics.agreement` is with it.

    kl: nats a token, from the full model's distribution to the exit's.
    """

    agreement_without_bridge: float | None
    kl: float | None
    kl_without_bridge: float | None


def gate_metrics(values_N: Tensor, labels_N: Tensor, agreed_N: Tensor, threshold: float = 0.5) -> GateMetrics:
    """A token leaves where its value is greater than the threshold, as in `policies.gate`."""
    leaves_N = values_N > threshold
    hits, misses = int((leaves_N & labels_N).sum()), int((~leaves_N & labels_N).sum())
    false_alarms, total = int((leaves_N & ~labels_N).sum()), len(labels_N)
    return GateMetrics(
        accuracy=_ratio(total - misses - false_alarms, total),
        precision=_ratio(hits, hits + false_alarms),
        recall=_ratio(hits, hits + misses),
        f1=_ratio(2 * hits, 2 * hits + false_alarms + misses),
        auroc=auroc(values_N, labels_N),
        positive_rate=_ratio(hits + misses, total),
        leave_rate=_ratio(hits + false_alarms, total),
        agreement=_ratio(int(agreed_N.sum()), total),
    )


def auroc(values_N: Tensor, labels_N: Tensor) -> float | None:
    """Probability that a random positive has a higher value than a random negative, ties counting half.

    None when one of the classes is empty.
    """
    positives = int(labels_N.sum())
    negatives = len(labels_N) - positives
    if not positives or not negatives:
        return None
    _, group_N, sizes_G = values_N.unique(return_inverse=True, return_counts=True)
    last_rank_G = sizes_G.cumsum(0).double()
    rank_G = last_rank_G - (sizes_G - 1) / 2  # of equal values each has the mean of their ranks, from 1
    rank_sum = float(rank_G[group_N[labels_N]].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def threshold_for(values_N: Tensor, labels_N: Tensor, precision: float) -> float:
    """The lowest threshold above which at least `precision` of the tokens are positive; 1 if none is."""
    values_U, group_N, sizes_U = values_N.unique(return_inverse=True, return_counts=True)
    positives_U = torch.zeros(len(values_U)).index_add_(0, group_N, labels_N.float())
    above_U, hits_U = (_sums_from(counts.double()) for counts in (sizes_U, positives_U))
    good = torch.nonzero(hits_U >= precision * above_U).flatten()
    if not len(good):
        return 1.0
    first = int(good[0])
    return float(values_U[first - 1]) if first else 0.0


def _sums_from(counts_U: Tensor) -> Tensor:
    """At each place the sum from there to the end."""
    return counts_U.flip(0).cumsum(0).flip(0)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
