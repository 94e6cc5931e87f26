"""Agreement: would the full model have chosen the same token after the same prefix?

Shapes: T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from offramp.models.base import Model


@torch.inference_mode()
def agreeing(model: Model, prompt: Sequence[int], tokens: Sequence[int]) -> int:
    """How many of the generated `tokens` are the full model's greedy choice on the prefix before them.

    One teacher-forced pass over the text as it was emitted, so an early mistake is counted once.
    """
    if not tokens:
        return 0
    device = next(model.parameters()).device
    whole_T = torch.tensor([*prompt, *tokens], device=device)
    logits_TV = model(whole_T[None, :-1])[0, len(prompt) - 1 :]
    return int((logits_TV.argmax(-1) == whole_T[len(prompt) :]).sum())
