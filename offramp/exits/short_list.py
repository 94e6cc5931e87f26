"""The tokens that an exit's drafts are chosen among: the head's rows of the others are not read for them.

Only what is judged may be chosen so. Under `verify` the last segment reads the whole head and decides, so a token that
is not listed costs a wrong draft and never a wrong word; every other propagation emits what the exit said.

Shapes: V vocabulary, K tokens listed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ShortList(nn.Module):
    """ids: int32 `[K]`, ascending, so that the lowest id wins a tie among them as it does among all."""

    ids: Tensor

    def __init__(self, ids_K: Tensor) -> None:
        super().__init__()
        self.size = len(ids_K)
        self.register_buffer("ids", ids_K.int())

    def among(self, logits: Tensor) -> Tensor:
        """Logits `[..., V]` with minus infinity for every token that is not listed."""
        return self.spread(logits.index_select(-1, self.ids), logits.shape[-1])

    def spread(self, logits: Tensor, vocabulary: int) -> Tensor:
        """The listed tokens' logits `[..., K]` among all `[..., V]`, minus infinity for the others."""
        every = logits.new_full((*logits.shape[:-1], vocabulary), -torch.inf)
        return every.index_copy_(-1, self.ids.long(), logits)


def are_ids(ids_K: Tensor) -> bool:
    """Whether these could be a short list's: whole numbers from 0 on, ascending."""
    return ids_K.dtype == torch.int32 and int(ids_K[0]) >= 0 and not bool((ids_K.diff() <= 0).any())
