"""The rows of a batch: each runs at its own pace in the engine, and sees of `transformers` what `generate` shows it.

Shapes: B rows of the batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers.generation.logits_process import (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    PrefixConstrainedLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from offramp.errors import UsageError


@dataclass
class Row:
    """One prompt as it stands in `input_ids`, its left padding apart, and what was said after it."""

    padding: tuple[int, ...]
    prompt: tuple[int, ...]
    said: list[int] = field(default_factory=list)
    done: bool = False

    @property
    def length(self) -> int:
        """Tokens as `generate` counts them, padding included."""
        return len(self.padding) + len(self.prompt) + len(self.said)

    def ids(self, device: torch.device) -> Tensor:
        """`[1, T]`: what processors and criteria see of this row in `generate`, padding included."""
        return torch.tensor([[*self.padding, *self.prompt, *self.said]], device=device)


def rows_of(input_ids_BT: Tensor, mask_BT: Tensor | None) -> list[Row]:
    """The batch as rows. Raises UsageError for padding that is not on the left, and for an empty prompt."""
    starts = [0] * len(input_ids_BT) if mask_BT is None else [_start(row_T) for row_T in mask_BT.tolist()]
    rows = []
    for ids, start in zip(input_ids_BT.tolist(), starts, strict=True):
        if start == len(ids):
            raise UsageError("a prompt is empty: give at least one token.")
        rows.append(Row(tuple(ids[:start]), tuple(ids[start:])))
    return rows


def _start(mask_T: Sequence[int]) -> int:
    """How many zeros come before the ones."""
    start = len(mask_T) - sum(1 for one in mask_T if one)
    if any(mask_T[:start]):
        raise UsageError(
            "the attention_mask hides tokens after the first: pad on the left (padding_side='left')."
        )
    return start


BATCHED = (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    PrefixConstrainedLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)
"""Those of transformers that know rows by their place in the batch, by padding say. They are shown a whole batch."""


@dataclass(frozen=True)
class Processors:
    """The processors of `generate` as the engine's: the row's ids with its padding before them, float32 scores."""

    processors: Sequence[Callable[[Tensor, Tensor], Tensor]]
    padding: tuple[int, ...]
    place: int
    batch: int

    def __call__(self, logits_V: Tensor, before: Sequence[int]) -> Tensor:
        ids_1T = torch.tensor([[*self.padding, *before]], device=logits_V.device)
        scores_1V = logits_V[None].to(torch.float32, copy=True)  # processors may write into them
        for processor in self.processors:
            if isinstance(processor, BATCHED):
                scores_BV = processor(ids_1T.repeat(self.batch, 1), scores_1V.repeat(self.batch, 1))
                scores_1V = scores_BV[self.place : self.place + 1]
            else:
                scores_1V = processor(ids_1T, scores_1V)
        return scores_1V[0]


def padded(rows: Sequence[Row], pad: int, device: torch.device) -> Tensor:
    """`[B, T]`: all rows as long as the longest."""
    ids = [row.ids(device)[0] for row in rows]
    return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=pad)
