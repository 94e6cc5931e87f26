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
from offramp.ops.rowwise import rowwise

TOGETHER = 1 << 16
"""Numbers in a table of logits: as many rows as fill it are chosen for at once. It stays in a core's cache."""

_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class _Place:
    """What one row of logits is for: the token after `before`, sampled so, or forced."""

    before: Sequence[int]
    sampling: Sampling
    forced: int | None


def choose(logits_V: Tensor, before: Sequence[int], sampling: Sampling) -> Choice:
    """The token at position len(before), given exactly the tokens before it: `choose_each` for one row."""
    return choose_each(logits_V[None], [before], [sampling])[0]


def choose_each(
    logits_RV: Tensor,
    befores: Sequence[Sequence[int]],
    samplings: Sequence[Sampling],
    forced: Sequence[int | None] | None = None,
) -> list[Choice]:
    """For each row, the token at position len(before), given exactly the tokens before it.

    forced: tokens that are given where not None; the choice then says what it would have been (`best`).
    The logprob is after processor, penalties and temperature, before the filters. Ties go to the lowest id.
    """
    assert len(logits_RV) == len(befores)
    given = [None] * len(befores) if forced is None else forced
    places = [_Place(*place) for place in zip(befores, samplings, given, strict=True)]
    few = max(1, TOGETHER // logits_RV.shape[1])
    return [
        choice
        for start in range(0, len(places), few)
        for choice in _choose_few(logits_RV[start : start + few], places[start : start + few])
    ]


def _choose_few(logits_RV: Tensor, places: Sequence[_Place]) -> list[Choice]:
    logp_RV = _adjusted(logits_RV, places).log_softmax(-1)
    best = _scores(logp_RV, places).argmax(-1).tolist()
    tokens = [b if place.forced is None else place.forced for b, place in zip(best, places, strict=True)]
    logprobs = logp_RV[range(len(places)), tokens].tolist()
    return [Choice(*choice) for choice in zip(tokens, logprobs, best, strict=True)]


def _adjusted(logits_RV: Tensor, places: Sequence[_Place]) -> Tensor:
    """Logits in float64 after processor, penalties and temperature."""
    adjusted_RV = logits_RV.to(torch.float64, copy=True)
    for i, (logits_V, place) in enumerate(zip(logits_RV, places, strict=True)):
        sampling = place.sampling
        if sampling.processor is not None:
            logits_V = sampling.processor(logits_V.clone(), place.before)  # it may work in place
        if sampling.processor is not None or sampling.repetition_penalty != 1:
            adjusted_RV[i] = penalise(logits_V.double(), place.before, sampling)
    heats = [place.sampling.temperature or 1.0 for place in places]
    if any(heat != 1 for heat in heats):
        adjusted_RV /= adjusted_RV.new_tensor(heats)[:, None]
    return adjusted_RV


def _scores(logp_RV: Tensor, places: Sequence[_Place]) -> Tensor:
    """What is largest for the token to choose: greedy rows as they are, the others filtered and with noise."""
    sampled = [i for i, place in enumerate(places) if place.sampling.temperature > 0]
    if not sampled:
        return logp_RV
    kept_RV = torch.stack([keep_likely(logp_RV[i], places[i].sampling) for i in sampled])
    keys = [_key(places[i].sampling.seed, len(places[i].before)) for i in sampled]
    noise_RV = _gumbel(keys, logp_RV.shape[1], logp_RV.device)
    return logp_RV.index_copy(0, torch.tensor(sampled, device=logp_RV.device), kept_RV + noise_RV)


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


def gumbel(seed: int, position: int, vocab: int, device: torch.device | str = "cpu") -> Tensor:
    """Standard Gumbel noise `[V]`, float64: a counter-based hash (SplitMix64) of seed, position and token id."""
    return _gumbel([_key(seed, position)], vocab, device)[0]


def _key(seed: int, position: int) -> int:
    return _mix_int(_mix_int(seed & _MASK) ^ position)


def _gumbel(keys: Sequence[int], vocab: int, device: torch.device | str) -> Tensor:
    ids_V = torch.arange(vocab, dtype=torch.int64, device=device)
    keys_R1 = torch.tensor([[_signed(key)] for key in keys], device=device)
    bits_RV = _mix(ids_V * _signed(0x9E3779B97F4A7C15) + keys_R1)
    uniform_RV = (_shift(bits_RV, 11).double() + 0.5) * 2.0**-53
    return rowwise(lambda uniform: -(-uniform.log()).log(), uniform_RV)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64 tensors; products wrap as they must."""
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def _mix_int(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift: torch's is arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(x: int) -> int:
    return x - (1 << 64) if x >= 1 << 63 else x


def are_sound(logits_RV: Tensor) -> list[bool]:
    """Of each row whether it has no NaN and a largest number that is finite: else nothing can be chosen from it."""
    return logits_RV.amax(-1).isfinite().tolist()
