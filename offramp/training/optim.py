"""Which optimizer moves which parameter: Muon the matrices of the blocks, AdamW everything else.

Muon orthogonalises a momentum matrix, so it fits weights that multiply activations. Embeddings (rows are
looked up), norms, decay rates, biases and the short convolutions are no such matrices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

BETAS = (0.9, 0.95)


def muon_and_adamw(
    model: nn.Module, blocks: nn.Module, muon_rate: float, adamw_rate: float, weight_decay: float
) -> list[Optimizer]:
    """Muon over the matrices of `blocks`, AdamW without weight decay over the rest of `model`."""
    matrices = [p for name, p in blocks.named_parameters() if p.ndim == 2 and "conv" not in name]
    taken = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in taken]
    optimizers: list[Optimizer] = [torch.optim.AdamW(others, lr=adamw_rate, betas=BETAS, weight_decay=0.0)]
    if matrices:
        optimizers.append(torch.optim.Muon(matrices, lr=muon_rate, weight_decay=weight_decay))
    return remember_peak(optimizers)


def remember_peak(optimizers: Sequence[Optimizer]) -> list[Optimizer]:
    """Note each group's rate as its peak, which `set_rate` scales."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return list(optimizers)


def set_rate(optimizers: Iterable[Optimizer], factor: float) -> None:
    """Scale every group's rate to `factor` of its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor


def update(optimizers: Sequence[Optimizer], parameters: Iterable[Tensor], loss: Tensor, clip: float) -> None:
    """Backward, then `apply`."""
    torch.autograd.backward(loss)
    apply(optimizers, parameters, clip)


def apply(optimizers: Sequence[Optimizer], parameters: Iterable[Tensor], clip: float) -> None:
    """Clip the gradients' norm, step every optimizer, forget the gradients. No device sync."""
    nn.utils.clip_grad_norm_(parameters, clip)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
