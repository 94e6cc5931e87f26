"""One reply as it grows: token ids in, text that will not change any more out."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

from offramp.text.detokenizer import Detokenizer
from offramp.text.stops import StopStrings
from offramp.text.tokenizer import Text


@dataclass(frozen=True)
class TextDelta:
    """What one token made certain. `stopped`: a stop string was completed; `text` ends before it."""

    text: str
    stopped: bool


class TextStream:
    """The text of one reply after its prompt, over committed tokens only: it is never rolled back.

    The pieces and what `finish` returns, joined, are the reply.
    """

    def __init__(self, text: Text, stops: Iterable[str] = ()) -> None:
        self._detokenizer = Detokenizer(text.pieces, continues=True)
        self._stops = StopStrings(tuple(stops))

    def push(self, token: int) -> TextDelta:
        return TextDelta(*self._stops.push(self._detokenizer.push(token)))

    def finish(self) -> str:
        """The rest, once no token will follow. Call it unless a stop string ended the reply."""
        rest, hit = self._stops.push(self._detokenizer.flush())
        return rest if hit else rest + self._stops.flush()

    def copy(self) -> TextStream:
        """An independent stream that has seen the same tokens."""
        twin = copy.copy(self)
        twin._detokenizer, twin._stops = copy.copy(self._detokenizer), copy.copy(self._stops)
        return twin
