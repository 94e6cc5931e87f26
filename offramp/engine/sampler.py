"""Choosing a token: argmax(filtered log-probability + Gumbel noise), the noise a function of its place alone.

The noise at (seed, position, token) is the same whoever asks: a draft, its verification, a row alone or in a
batch. So a draft that equals the full model's choice is the full model's choice (arXiv 2408.07978), and sampled
text does not depend on what was drafted.

Shapes: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from offramp.engine.sequence import Choice, Sampling

_MASK = (1 << 64) - 1


def choose(logits_V: Tensor, before: Sequence[int], sampling: Sampling) -> Choice:
    """The token at position len(before), given exactly the tokens before it.

    The logprob is after processor, penalties and temperature, before the filters. Ties go to the lowest id.
    """
    if sampling.processor is not None:
        logits_V = sampling.processor(logits_V, before)
    logits_V = penalise(logits_V.double(), before, sampling)
    logp_V = (logits_V / (sampling.temperature or 1.0)).log_softmax(-1)
    score_V = logp_V
    if sampling.temperature > 0:
        noise_V = gumbel(sampling.seed, len(before), logp_V.shape[-1], logp_V.device)
        score_V = keep_likely(logp_V, sampling) + noise_V
    token = int(score_V.argmax())
    return Choice(token, float(logp_V[token]))


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
    key = _mix_int(_mix_int(seed & _MASK) ^ position)
    ids_V = torch.arange(vocab, dtype=torch.int64, device=device)
    bits_V = _mix(ids_V * _signed(0x9E3779B97F4A7C15) + _signed(key))
    uniform_V = (_shift(bits_V, 11).double() + 0.5) * 2.0**-53
    return -(-uniform_V.log()).log()


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
