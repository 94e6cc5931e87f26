"""Plain greedy decoding by whole forward passes: slow, without caches, the same for every model.

Shapes: R rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from offramp.exits.labels import choice
from offramp.models.base import Model


@torch.inference_mode()
def greedy(
    model: Model, prompts: Sequence[Sequence[int]], new_tokens: int, rows: int = 128
) -> list[list[int]]:
    """The `new_tokens` ids that follow each prompt, in the order of the prompts."""
    answers: list[list[int]] = [[] for _ in prompts]
    order = sorted(
        range(len(prompts)), key=lambda i: len(prompts[i])
    )  # neighbours of one length: little padding
    for start in range(0, len(order), rows):
        part = order[start : start + rows]
        for i, answer in zip(part, _greedy_rows(model, [prompts[i] for i in part], new_tokens), strict=True):
            answers[i] = answer
    return answers


def _greedy_rows(model: Model, prompts: Sequence[Sequence[int]], new_tokens: int) -> Iterator[list[int]]:
    """Rows end at different places; padding behind a row's end cannot be seen by a causal model."""
    device = model.norm.weight.device
    assert isinstance(device, torch.device)
    lengths = [len(prompt) for prompt in prompts]
    tokens_RT = torch.zeros(len(prompts), max(lengths) + new_tokens, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        tokens_RT[row, : len(prompt)] = torch.tensor(prompt)
    tokens_RT = tokens_RT.to(device)
    end_R = torch.tensor(lengths, device=device)
    every_R = torch.arange(len(prompts), device=device)
    for step in range(new_tokens):
        logits_RTV = model_at(model, tokens_RT[:, : max(lengths) + step], end_R + step - 1)
        tokens_RT[every_R, end_R + step] = choice(logits_RTV)
    for row, length in enumerate(lengths):
        yield tokens_RT[row, length : length + new_tokens].tolist()


def model_at(model: Model, tokens_RT: Tensor, at_R: Tensor) -> Tensor:
    """Full-depth logits `[R, V]` at one position of each row."""
    hidden_RTD = model.hidden_states(tokens_RT)[-1]
    return model.logits(hidden_RTD[torch.arange(len(at_R), device=at_R.device), at_R])
