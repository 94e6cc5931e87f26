"""A bridge's loss: how far the distribution it leads to is from the full model's at the same position.

Shapes: E exits, N positions, C positions of a chunk, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Logits = Callable[[Tensor], Tensor]
"""Hidden states [..., D] -> logits [..., V]: the model's shared norm and head."""


def divergences(exits_ND: Sequence[Tensor], full_ND: Tensor, logits: Logits, chunk: int = 1024) -> Tensor:
    """KL(full || exit) in nats, `[E, N]`; differentiable in what the exits give, not in the full model's.

    exits_ND: what each exit gives the shared norm and head; full_ND: what the last block does.
    Logits exist for `chunk` positions of two readings at a time, also for the gradient: it is made with the value.
    """
    learns = torch.is_grad_enabled() and any(exit_ND.requires_grad for exit_ND in exits_ND)
    return _Divergences.apply(full_ND, logits, chunk, learns, *exits_ND)


class _Divergences(torch.autograd.Function):
    """Keeps a gradient of the exits' size, where autograd alone would keep all logits."""

    @staticmethod
    def forward(
        ctx: Any, full_ND: Tensor, logits: Logits, chunk: int, learns: bool, *exits_ND: Tensor
    ) -> Tensor:
        values_EN = full_ND.new_empty(len(exits_ND), len(full_ND), dtype=torch.float32)
        slopes_END = [torch.empty_like(exit_ND) for exit_ND in exits_ND] if learns else []
        for start in range(0, len(full_ND), chunk):
            at = slice(start, start + chunk)
            target_CV = logits(full_ND[at]).float().log_softmax(-1)
            for e, exit_ND in enumerate(exits_ND):
                with torch.set_grad_enabled(learns):
                    x_CD = exit_ND[at].detach().requires_grad_(learns)
                    kl_C = divergence(logits(x_CD), target_CV)
                values_EN[e, at] = kl_C.detach()
                if learns:
                    [slopes_END[e][at]] = torch.autograd.grad(kl_C, x_CD, torch.ones_like(kl_C))
        ctx.save_for_backward(*slopes_END)
        return values_EN

    @staticmethod
    def backward(ctx: Any, *grads_EN: Tensor) -> tuple[Tensor | None, ...]:
        [grad_EN] = grads_EN
        slopes = (grad_N[:, None] * slope for grad_N, slope in zip(grad_EN, ctx.saved_tensors, strict=True))
        return (None, None, None, None, *slopes)


def divergence(logits_CV: Tensor, target_CV: Tensor) -> Tensor:
    """KL(target || softmax(logits)) in nats `[C]`; target: log-probabilities."""
    return F.kl_div(logits_CV.float().log_softmax(-1), target_CV, reduction="none", log_target=True).sum(-1)
