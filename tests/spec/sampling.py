"""Choosing a token: argmax(logp_filtered + gumbel(seed, position, token)) (design 1, Sampling)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Noise = Callable[[int, int, int], Tensor]  # noise(seed, position, V) -> [V] float64


def gumbel(seed: int, position: int, vocabulary: int) -> Tensor:
    """Gumbel noise by counter: who asks, when and how often cannot change it."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + position)
    uniform = torch.rand(vocabulary, generator=generator, dtype=torch.float64).clamp(1e-300, 1 - 1e-16)
    return -torch.log(-torch.log(uniform))


@dataclass(frozen=True)
class Sampling:
    """Greedy without a seed or at temperature 0, which then counts as 1 for the reported log-probability."""

    seed: int | None = None
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    penalty_window: int | None = None  # how many of the newest tokens are penalised; None: all
    noise: Noise = gumbel

    @property
    def greedy(self) -> bool:
        return self.seed is None or self.temperature == 0


def choose(logits_V: Tensor, before: Sequence[int], sampling: Sampling) -> tuple[int, float]:
    """The token at position len(before), and its log-probability before the filters.

    `before` is exactly the tokens before that position, so drafts are penalised as the final text is.
    """
    logits_V = penalise(logits_V.double(), before, sampling)
    logp_V = (logits_V / (sampling.temperature or 1.0)).log_softmax(-1)
    score_V = logp_V
    if not sampling.greedy:
        noise_V = sampling.noise(sampling.seed, len(before), len(logits_V))
        score_V = filtered(logp_V, sampling) + noise_V
    token = int((score_V == score_V.max()).nonzero()[0])  # ties go to the lowest id
    return token, logp_V[token].item()


def penalise(logits_V: Tensor, before: Sequence[int], sampling: Sampling) -> Tensor:
    """CTRL's repetition penalty (arXiv 1909.05858, section 4.1) over a window of tokens."""
    window = len(before) if sampling.penalty_window is None else sampling.penalty_window
    seen = sorted(set(before[max(len(before) - window, 0) :]))
    if sampling.repetition_penalty == 1.0 or not seen:
        return logits_V
    old = logits_V[seen]
    penalised_V = logits_V.clone()
    penalised_V[seen] = torch.where(
        old > 0, old / sampling.repetition_penalty, old * sampling.repetition_penalty
    )
    return penalised_V


def filtered(logp_V: Tensor, sampling: Sampling) -> Tensor:
    """top-k, then top-p of what is left renormalised, then min-p; the best token always stays."""
    kept = logp_V.argsort(descending=True, stable=True)
    if sampling.top_k is not None:
        kth = logp_V[kept[: sampling.top_k][-1]]
        kept = kept[logp_V[kept] >= kth]  # equals of the k-th stay with it
    if sampling.top_p < 1:
        # The smallest set that reaches top_p: a token stays while those before it have not; the best always.
        reached = logp_V[kept].softmax(-1).cumsum(-1)[:-1]
        kept = torch.cat([kept[:1], kept[1:][reached < sampling.top_p]])
    kept = kept[logp_V[kept].exp() >= sampling.min_p * logp_V[kept].exp().max()]
    return torch.full_like(logp_V, -torch.inf).index_copy(0, kept, logp_V[kept])
