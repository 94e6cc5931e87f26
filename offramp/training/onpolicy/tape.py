"""What was heard while the model wrote: the data that exits learn from on-policy.

Shapes: T tokens that an exit heard, N of them that it was asked about, D width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from torch import Tensor

from offramp.data.documents import Documents


@dataclass(frozen=True)
class Heard:
    """One exit's part.

    hidden_TD: of the prompt, then of every later token that the gate heard.   asked_N: the indices of those it was
    asked about.   full_ND: what the last block gives at these tokens when all before them go the whole depth.
    """

    hidden_TD: Tensor
    asked_N: Tensor
    full_ND: Tensor


class Tape(Sequence[int]):
    """A prompt and the model's reply, as token ids; with what each exit heard. It is never cut."""

    def __init__(self, tokens: Sequence[int], heard: Sequence[Heard]) -> None:
        self.tokens, self.heard = tuple(tokens), tuple(heard)

    def __len__(self) -> int:
        return len(self.tokens)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Tape: ...
    def __getitem__(self, index: int | slice) -> int | Tape:
        if isinstance(index, int):
            return self.tokens[index]
        assert index.indices(len(self)) == (0, len(self), 1), "a gate's memory begins where the text begins"
        return self


@dataclass(frozen=True)
class Tapes(Documents):
    """Documents whose items are tapes."""

    def sha256(self) -> str:
        """Of the ids and of all that was heard."""
        digest = hashlib.sha256(super().sha256().encode())
        for item in (*self.training, *self.held_out):
            assert isinstance(item, Tape)
            for heard in item.heard:
                for value in (heard.hidden_TD, heard.asked_N, heard.full_ND):
                    digest.update(value.detach().cpu().double().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def longest(self) -> int:
        return max(map(len, (*self.training, *self.held_out)))
