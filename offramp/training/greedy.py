"""Plain greedy decoding by whole forward passes: slow, without caches, the same for every model.

Shapes: R rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from offramp.exits.labels import choice
from offramp.models.base import Model
from offramp.training.windows import device_of, padded


@torch.inference_mode()
def greedy(
    model: Model, prompts: Sequence[Sequence[int]], new_tokens: int, stop: int | None = None, rows: int = 128
) -> list[list[int]]:
    """The ids that follow each prompt, in the prompts' order: `new_tokens`, or up to and with `stop`."""
    answers: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # little padding within a batch
    for start in range(0, len(order), rows):
        part = order[start : start + rows]
        found = _greedy_rows(model, [prompts[i] for i in part], new_tokens, stop)
        for i, answer in zip(part, found, strict=True):
            answers[i] = answer
    return answers


def _greedy_rows(
    model: Model, prompts: Sequence[Sequence[int]], new_tokens: int, stop: int | None
) -> list[list[int]]:
    """Rows end at different places; a causal model cannot see the padding behind a row's end."""
    device = device_of(model)
    end_R = torch.tensor([len(prompt) for prompt in prompts], device=device)
    row_R = torch.arange(len(prompts), device=device)
    tokens_RT = padded([[*prompt, *[0] * new_tokens] for prompt in prompts], device)
    done_R = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    for step in range(new_tokens):
        hidden_RTD = model.hidden_states(tokens_RT[:, : tokens_RT.shape[1] - new_tokens + step])[-1]
        logits_RV = model.logits(hidden_RTD[row_R, end_R + step - 1])
        tokens_RT[row_R, end_R + step] = chosen_R = choice(logits_RV)
        if stop is not None and (done_R := done_R | (chosen_R == stop)).all():
            break
    replies = [tokens_RT[row, end : end + new_tokens].tolist() for row, end in enumerate(end_R.tolist())]
    return [ids[: ids.index(stop) + 1] if stop in ids else ids for ids in replies]
