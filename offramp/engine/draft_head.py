"""What drafts are chosen from: the shared norm and head, of the tokens that the first exit lists.

Shapes: N tokens, packed, D width, K tokens listed, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from offramp.engine.runner import Logits, Runner
from offramp.exits.base import Exit
from offramp.exits.short_list import ShortList
from offramp.models.base import Model
from offramp.models.shortened import shortened

PART = "draft_head"
"""Its name among the parts whose work is counted."""


@dataclass(frozen=True)
class DraftHead:
    """`read` is of the head's rows for the listed tokens, a copy of K x D numbers that lie together."""

    short_list: ShortList
    vocabulary: int
    read: Logits

    def __call__(self, x_ND: Tensor) -> Tensor:
        """Logits `[N, V]` of hidden states `[N, D]`: the full head's where a token is listed, else minus infinity."""
        return self.short_list.spread(self.read(x_ND), self.vocabulary)


def draft_head(model: Model, exits: Sequence[Exit], runner: Runner) -> DraftHead | None:
    """Of the first exit, as no draft leaves another. None where it lists nothing, or the head is not one row a token:
    then drafts are chosen from all of it."""
    short_list = exits[0].short_list if exits else None
    short = None if short_list is None else shortened(model, short_list.ids)
    if short is None or short_list is None:
        return None
    return DraftHead(short_list, model.config.vocab_size, runner.logits(short))
