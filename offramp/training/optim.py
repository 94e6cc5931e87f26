"""Which optimizer moves which parameter.

Exits: AdamW, or the paper's schedule-free AdamW (arXiv 2405.15682). Whole models: Muon the matrices of the blocks,
AdamW everything else. Muon orthogonalises a momentum matrix, so it fits weights that multiply activations.
Embeddings (rows are looked up), norms, decay rates, biases and the short convolutions are no such matrices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from offramp.data.extras import extra
from offramp.errors import UsageError
from offramp.training.exit_config import OPTIMIZERS

BETAS = (0.9, 0.95)


def optimizer_named(name: str, parameters: Iterable[Tensor], rate: float, weight_decay: float) -> Optimizer:
    """One of OPTIMIZERS, ready to step. Raises UsageError for another name and where its package is missing."""
    if name == "adamw":
        optimizer: Optimizer = torch.optim.AdamW(parameters, lr=rate, betas=BETAS, weight_decay=weight_decay)
    elif name == "schedulefree":
        optimizer = _schedule_free(parameters, rate, weight_decay)
    else:
        raise UsageError(f"unknown optimizer {name!r}: one of {', '.join(OPTIMIZERS)}")
    return remember_peak([optimizer])[0]


def _schedule_free(parameters: Iterable[Tensor], rate: float, weight_decay: float) -> Optimizer:
    """With its authors' betas, as the paper used it."""
    found = extra("schedulefree", "train", "The optimizer schedulefree")
    optimizer: Optimizer = found.AdamWScheduleFree(parameters, lr=rate, weight_decay=weight_decay)
    optimizer.train()  # type: ignore[attr-defined]  # until `settle`
    return optimizer


def settle(optimizers: Iterable[Optimizer]) -> None:
    """Give the parameters the values they are to be used with, when all steps are made.

    A schedule-free optimizer trains at points between its iterates and their average, and the average is the
    result. Not for the middle of a run: the way back rounds, so checkpoints hold the points themselves.
    """
    for optimizer in optimizers:
        if hasattr(optimizer, "eval"):
            optimizer.eval()


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


def apply(optimizers: Sequence[Optimizer], parameters: Iterable[Tensor], clip: float) -> None:
    """Clip the gradients' norm, step every optimizer, forget the gradients. No device sync."""
    nn.utils.clip_grad_norm_(parameters, clip)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
