"""What a number format costs a model: how well it foresees given texts, and how often it says what float32 says.

Shapes: N tokens, D width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.errors import DataError
from offramp.evaluation.scoring import Ids, windows
from offramp.models.base import Model
from offramp.text import Text

TOGETHER = 256
"""Positions whose logits exist at a time."""
LONGEST = 2048
"""Tokens that a text is read with before each; longer ones are read in pieces."""


@dataclass(frozen=True)
class Read:
    """Texts as a model is given them, every token once to be foreseen. size: their bytes of UTF-8."""

    pairs: tuple[tuple[Ids, Ids], ...]
    texts: int
    size: int

    @property
    def tokens(self) -> int:
        return sum(len(continuation) for _, continuation in self.pairs)


@dataclass(frozen=True)
class Foreseen:
    """bits: of all tokens together. choices: the likeliest token in each one's place."""

    bits: float
    choices: tuple[int, ...]

    def per_byte(self, read: Read) -> float:
        return self.bits / read.size

    def agreement(self, other: Foreseen) -> float:
        """Share of places where both choose the same."""
        same = sum(mine == its for mine, its in zip(self.choices, other.choices, strict=True))
        return same / len(self.choices)


def read_texts(texts: Iterable[str], text: Text, context: int) -> Read:
    """Whole texts after the token that begins one; where the tokenizer has none, each text's own first is given.

    Raises DataError where there is nothing to foresee.
    """
    given = [each for each in texts if each]
    size = min(context, LONGEST) - 1
    pairs = [pair for each in given for pair in windows(_begun(text, each), size)]
    if not pairs:
        raise DataError("there is no text to measure quality on")
    return Read(tuple(pairs), len(given), sum(len(each.encode()) for each in given))


def _begun(text: Text, each: str) -> Ids:
    first = text.bos_id if text.bos_id is not None else text.eos_id
    ids = text.encode(each)
    return ids if first is None or ids[:1] == [first] else [first, *ids]


@torch.inference_mode()
def foresee(model: Model, read: Read) -> Foreseen:
    """At full depth, one text after the other."""
    nats, choices = 0.0, list[int]()
    for context, continuation in read.pairs:
        hidden_ND = _hidden(model, [*context, *continuation[:-1]])[len(context) - 1 :]
        for begin in range(0, len(continuation), TOGETHER):
            tokens_N = torch.tensor(continuation[begin : begin + TOGETHER])
            logprobs_NV = model.logits(hidden_ND[begin : begin + TOGETHER]).float().log_softmax(-1)
            nats -= float(logprobs_NV.gather(-1, tokens_N.to(logprobs_NV.device)[:, None]).double().sum())
            choices += logprobs_NV.argmax(-1).tolist()
    return Foreseen(nats / math.log(2), tuple(choices))


def _hidden(model: Model, tokens: Sequence[int]) -> Tensor:
    """What the last block leaves, `[N, D]`."""
    x_1ND = model.embed(torch.tensor([tokens], device=next(model.parameters()).device))
    for block in model.blocks:
        x_1ND = block(x_1ND)
    return x_1ND[0]
