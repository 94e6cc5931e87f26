"""The best token of each row of logits, greedily or with Gumbel noise, and a token's log-probability.

argmax(logit / temperature + noise) is a sample of softmax(logits / temperature), the noise a function of its place
alone. A row's answer has the bits that it has alone.

Shapes: N rows, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from offramp.native.best import Best, best_each
from offramp.native.library import find
from offramp.ops.gumbel import gumbel_each

TOGETHER = 1 << 16
"""Numbers in a table of logits: as many rows as fill it are taken at once. It stays in a core's cache."""


class Said(NamedTuple):
    """best: the token. logprob: of the token that was given, else of the best, at the row's temperature."""

    best: int
    logprob: float


def say_each(
    logits_NV: Tensor, heats: Sequence[float], keys: Sequence[int], given: Sequence[int | None]
) -> list[Said | None]:
    """heats: temperatures; 0 is greedy. keys: what each row's noise is made from, see `noise_key`.

    None for a row that has a NaN, or whose largest logit is not finite. Ties go to the lowest id.
    """
    library = find() if logits_NV.device.type == "cpu" and logits_NV.dtype == torch.float32 else None
    if library is None:
        return say_naive(logits_NV, heats, keys, given)
    rows_NV = logits_NV.contiguous()
    found = best_each(library, rows_NV, heats, keys)
    return [_said(rows_NV, i, *row) for i, row in enumerate(zip(found, heats, given, strict=True))]


def _said(logits_NV: Tensor, row: int, best: Best, heat: float, given: int | None) -> Said | None:
    if not math.isfinite(best.largest) or math.isnan(best.total):
        return None
    token = best.token if given is None else given
    below = 0.0 if given is None and not heat else logits_NV[row, token].item() - best.largest
    return Said(best.token, below / (heat or 1.0) - math.log(best.total))


def say_naive(
    logits_NV: Tensor, heats: Sequence[float], keys: Sequence[int], given: Sequence[int | None]
) -> list[Said | None]:
    """The same by PyTorch, in float64."""
    few = max(1, TOGETHER // logits_NV.shape[1])
    return [
        said
        for i in range(0, len(logits_NV), few)
        for said in _say_few(
            logits_NV[i : i + few].double(), heats[i : i + few], keys[i : i + few], given[i : i + few]
        )
    ]


def _say_few(
    logits_NV: Tensor, heats: Sequence[float], keys: Sequence[int], given: Sequence[int | None]
) -> list[Said | None]:
    logp_NV = (logits_NV / logits_NV.new_tensor([heat or 1.0 for heat in heats])[:, None]).log_softmax(-1)
    scores_NV = logp_NV
    if sampled := [i for i, heat in enumerate(heats) if heat > 0]:
        noise_NV = gumbel_each([keys[i] for i in sampled], logp_NV.shape[1], logp_NV.device)
        where = torch.tensor(sampled, device=logp_NV.device)
        scores_NV = logp_NV.index_copy(0, where, logp_NV[where] + noise_NV)
    best = scores_NV.argmax(-1).tolist()
    tokens = [b if token is None else token for b, token in zip(best, given, strict=True)]
    logprobs = logp_NV[range(len(best)), tokens].tolist()
    sound = logits_NV.amax(-1).isfinite().tolist()
    said = [Said(*each) for each in zip(best, logprobs, strict=True)]
    return [each if fine else None for each, fine in zip(said, sound, strict=True)]
