"""What a gate learns to predict: will the token its bridge would emit do?

Shapes: V vocabulary, `...` any positions, R rows, T tokens, D width, E exits.

The oracle is the full model's choice at the same position. DYNAMAX states its relaxed label one way and its
published code trains the other way round; here are both, and at k = 1 both are CALM's exact agreement. A
token's rank is the number of tokens before it, ties in order of id, so a top-k set has exactly k members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from offramp.errors import UnknownName, UsageError
from offramp.registry import unknown

Label = Callable[[Tensor, Tensor, int], Tensor]
"""(exit logits [..., V], full model's logits [..., V], k) -> bool [...]"""


def choice(logits: Tensor) -> Tensor:
    """The greedy token `[...]`; ties go to the lowest id, as `argmax` promises."""
    return logits.argmax(-1)


def rank(logits: Tensor, token: Tensor) -> Tensor:
    """How many tokens come before `token` `[...]` in `logits` `[..., V]`."""
    ids = torch.arange(logits.shape[-1], dtype=torch.int32, device=logits.device)
    own = logits.gather(-1, token[..., None])
    before = (logits > own) | ((logits == own) & (ids < token[..., None].int()))
    return before.sum(-1, dtype=torch.int32)  # all in 32 bits: this reads the vocabulary at every position


def exact(exit_logits: Tensor, full_logits: Tensor, k: int = 1) -> Tensor:
    """The exit's choice is the full model's (CALM). k plays no part."""
    return choice(exit_logits) == choice(full_logits)


def oracle_in_exit_topk(exit_logits: Tensor, full_logits: Tensor, k: int) -> Tensor:
    """The full model's choice is among the exit's k best: what DYNAMAX's code trains on (k = 15)."""
    return rank(exit_logits, choice(full_logits)) < k


def exit_in_oracle_topk(exit_logits: Tensor, full_logits: Tensor, k: int) -> Tensor:
    """The exit's choice is among the full model's k best: what DYNAMAX's text says."""
    return rank(full_logits, choice(exit_logits)) < k


LABELS: dict[str, Label] = {
    "exact": exact,
    "oracle_in_exit_topk": oracle_in_exit_topk,
    "exit_in_oracle_topk": exit_in_oracle_topk,
    "after_last_block": exact,  # on other logits: see `through_last_block`
}


def find_label(name: str, k: int) -> Label:
    """Raises UnknownName for a label that does not exist, UsageError for k below 1."""
    if name not in LABELS:
        raise UnknownName(unknown("label", name, LABELS))
    if k < 1:
        raise UsageError(f"label k is {k}: the best k tokens must be at least one")
    return LABELS[name]


def through_last_block(name: str, bridge_borrows_last_block: bool) -> bool:
    """Whether the label reads the exit's hidden state after the model's last block.

    It does where the bridge does, since a label is about the token the bridge would emit, and for
    `after_last_block` whatever the bridge is.
    """
    return bridge_borrows_last_block or name == "after_last_block"


def whole(logits: Tensor) -> Tensor:
    """Exits may choose any token."""
    return logits


def label_positions(
    label: Label,
    k: int,
    exits_RTD: Sequence[Tensor],
    full_RTD: Tensor,
    logits: Callable[[Tensor], Tensor],
    chunk: int = 1024,
    drafted: Callable[[Tensor], Tensor] = whole,
) -> tuple[Tensor, Tensor]:
    """Labels and agreement (the exact label) of every exit at every position: two bool tensors `[E, R, T]`.

    exits_RTD: what each exit gives the shared norm and head; full_RTD: what the last block does. drafted: what exits
    choose from, of their logits (`Exit.drafted`).
    Logits exist for `chunk` positions of two readings at a time: five readings of 4,096 positions at a
    vocabulary of 32,768 would take 2.5 GiB.
    """
    exits_ND, full_ND = [x_RTD.flatten(0, 1) for x_RTD in exits_RTD], full_RTD.flatten(0, 1)
    labels, agreements = [], []
    for at in _chunks(full_ND.shape[0], chunk):
        full_CV = logits(full_ND[at])
        pairs = [_pair(label, k, drafted(logits(exit_ND[at])), full_CV) for exit_ND in exits_ND]
        labels.append(torch.stack([pair[0] for pair in pairs]))
        agreements.append(torch.stack([pair[1] for pair in pairs]))
    shape = (len(exits_RTD), *full_RTD.shape[:2])
    return torch.cat(labels, dim=1).view(shape), torch.cat(agreements, dim=1).view(shape)


def _pair(label: Label, k: int, exit_CV: Tensor, full_CV: Tensor) -> tuple[Tensor, Tensor]:
    agreed = exact(exit_CV, full_CV)
    return (agreed if label is exact else label(exit_CV, full_CV, k)), agreed


def _chunks(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, start + size)
