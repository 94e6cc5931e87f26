"""Choosing tokens: argmax(filtered log-probability + Gumbel noise), the noise a function of its place alone.

The noise at (seed, position, token) is the same whoever asks: a draft, its verification, a row alone or in a
batch. So a draft that equals the full model's choice is the full model's choice (arXiv 2408.07978), and sampled
text does not depend on what was drafted. All else is row-exact too: a row has the bits that it has alone.

Shapes: R rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.engine.reply import Choice
from offramp.engine.request import Sampling
from offramp.ops.best import Said, say_each
from offramp.ops.gumbel import gumbel, noise_key


@dataclass(frozen=True)
class Place:
    """What one row of logits is for: the token after `before`, sampled so, or forced.

    A forced token is given; the choice then says what it would have been (`best`).
    """

    before: Sequence[int]
    sampling: Sampling
    forced: int | None = None

    @property
    def key(self) -> int:
        """Of the noise there."""
        return noise_key(self.sampling.seed, len(self.before))


def choose(logits_V: Tensor, before: Sequence[int], sampling: Sampling) -> Choice:
    """The token at position len(before), given exactly the tokens before it: `choose_each` for one row."""
    [choice] = choose_each(logits_V[None], [Place(before, sampling)])
    assert choice is not None, "these logits are no numbers"
    return choice


def choose_each(logits_RV: Tensor, places: Sequence[Place]) -> list[Choice | None]:
    """For each row, the token at position len(before), given exactly the tokens before it.

    None where the logits are no numbers: one is NaN, or the largest is not finite. The logprob is after processor,
    penalties and temperature, before the filters. Ties go to the lowest id.
    """
    assert len(logits_RV) == len(places)
    plain = [i for i, place in enumerate(places) if _is_plain(place.sampling)]
    said = dict(zip(plain, _say_plain(logits_RV, plain, [places[i] for i in plain]), strict=True))
    return [
        _choice(said[i] if i in said else _say_alone(logits_RV[i], place), place)
        for i, place in enumerate(places)
    ]


def _choice(said: Said | None, place: Place) -> Choice | None:
    if said is None:
        return None
    return Choice(said.best if place.forced is None else place.forced, said.logprob, said.best)


def _is_plain(sampling: Sampling) -> bool:
    """Whether the choice takes nothing but logits, temperature and noise."""
    return sampling.processor is None and not _is_filtered(sampling)


def _is_filtered(sampling: Sampling) -> bool:
    filtered = sampling.temperature > 0 and (sampling.top_k > 0 or sampling.top_p < 1 or sampling.min_p > 0)
    return filtered or sampling.repetition_penalty != 1


def _say_plain(logits_RV: Tensor, which: Sequence[int], places: Sequence[Place]) -> list[Said | None]:
    if not places:
        return []
    mine_RV = logits_RV if len(which) == len(logits_RV) else logits_RV[which]
    heats = [place.sampling.temperature for place in places]
    return say_each(mine_RV, heats, [place.key for place in places], [place.forced for place in places])


def _say_alone(logits_V: Tensor, place: Place) -> Said | None:
    """After the row's own processor, which may work in place, on a copy, and give another number format."""
    if place.sampling.processor is not None:
        if not are_sound(logits_V[None])[0]:
            return None
        logits_V = place.sampling.processor(logits_V.clone(), place.before)
    if _is_filtered(place.sampling):
        return _say_filtered(logits_V, place)
    return _say_plain(logits_V[None], [0], [place])[0]


def _say_filtered(logits_V: Tensor, place: Place) -> Said | None:
    """In float64: penalties and temperature, then the filters, then noise."""
    if not are_sound(logits_V[None])[0]:
        return None
    sampling, before = place.sampling, place.before
    adjusted_V = penalise(logits_V.double(), before, sampling) / (sampling.temperature or 1.0)
    logp_V = scores_V = adjusted_V.log_softmax(-1)
    if sampling.temperature > 0:
        noise_V = gumbel(sampling.seed, len(before), len(logp_V), logp_V.device)
        scores_V = keep_likely(logp_V, sampling) + noise_V
    best = int(scores_V.argmax())
    return Said(best, logp_V[best if place.forced is None else place.forced].item())


def penalise(logits_V: Tensor, before: Sequence[int], sampling: Sampling) -> Tensor:
    """CTRL's repetition penalty (arXiv 1909.05858, section 4.1) over the last `penalty_window` tokens."""
    if sampling.repetition_penalty == 1.0:
        return logits_V
    recent = torch.tensor(sorted(set(before[-sampling.penalty_window :])), device=logits_V.device)
    seen = logits_V[recent]
    penalty = sampling.repetition_penalty
    return logits_V.index_copy(0, recent, torch.where(seen > 0, seen / penalty, seen * penalty))


def keep_likely(logp_V: Tensor, sampling: Sampling) -> Tensor:
    """-inf outside top-k, then outside top-p of what is left, then under min_p times the best."""
    if 0 < sampling.top_k < logp_V.shape[-1]:
        logp_V = _forget(logp_V, logp_V < logp_V.topk(sampling.top_k).values[-1])
    if sampling.top_p < 1:
        sorted_V, order_V = logp_V.softmax(-1).sort(descending=True, stable=True)
        beyond_V = sorted_V.cumsum(-1) - sorted_V >= sampling.top_p
        logp_V = _forget(logp_V, torch.zeros_like(beyond_V).index_copy(0, order_V, beyond_V))
    if sampling.min_p > 0:
        prob_V = logp_V.softmax(-1)
        logp_V = _forget(logp_V, prob_V < sampling.min_p * prob_V.max())
    return logp_V


def _forget(logp_V: Tensor, out_V: Tensor) -> Tensor:
    return logp_V.masked_fill(out_V, -torch.inf)


def are_sound(logits_RV: Tensor) -> list[bool]:
    """Of each row whether it has no NaN and a largest number that is finite: else nothing can be chosen from it."""
    return logits_RV.amax(-1).isfinite().tolist()
