"""Agreement: would the full model have chosen the same token after the same prefix?

Shapes: T tokens, N of them at a time, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from offramp.engine.request import Sampling
from offramp.engine.sampler import Place, choose_each
from offramp.models.base import Model

TOGETHER = 256
"""Positions whose logits exist at a time."""
NONE = -1
"""Stands for the choice where the logits are no numbers: it agrees with no token."""


@torch.inference_mode()
def full_choices(model: Model, prompt: Sequence[int], tokens: Sequence[int], sampling: Sampling) -> list[int]:
    """The full model's choice at each of the emitted `tokens`, on the prefix as it was emitted.

    With the noise and penalties that the reply had. One teacher-forced pass over the whole text, so an early mistake
    is counted once. -1 where the model's logits are no numbers.
    """
    if not tokens:
        return []
    whole, first = [*prompt, *tokens], len(prompt)
    device = next(model.parameters()).device
    hidden_TD = _hidden(model, torch.tensor([whole[:-1]], device=device))[0, first - 1 :]
    found: list[int] = []
    for hidden_ND in hidden_TD.split(TOGETHER):
        start = first + len(found)
        befores = [whole[: start + i] for i in range(len(hidden_ND))]
        found += _choices(model.logits(hidden_ND), befores, sampling)
    return found


def agreeing(model: Model, prompt: Sequence[int], tokens: Sequence[int]) -> int:
    """How many of the generated `tokens` are the full model's greedy choice on the prefix before them."""
    chosen = full_choices(model, prompt, tokens, Sampling())
    return sum(token == choice for token, choice in zip(tokens, chosen, strict=True))


def _hidden(model: Model, tokens_1T: Tensor) -> Tensor:
    """What the last block leaves, `[1, T, D]`."""
    x_1TD = model.embed(tokens_1T)
    for block in model.blocks:
        x_1TD = block(x_1TD)
    return x_1TD


def _choices(logits_NV: Tensor, befores: Sequence[Sequence[int]], sampling: Sampling) -> list[int]:
    said = choose_each(logits_NV, [Place(before, sampling) for before in befores])
    return [NONE if choice is None else choice.token for choice in said]
