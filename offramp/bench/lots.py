"""Forced agreement: tokens by lot, for models whose weights learned nothing.

Exit and head each draw, from the bits of their own logits, whether they say the token that the position has for both.
Each does with the chance sqrt(q), so a draft is right with the chance q, and all else costs what it costs.

Shapes: V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

READ = 16
"""Logits whose bits are the lot."""


@dataclass(frozen=True)
class Lots:
    """A `LogitsProcessor`. agreement: the chance that two draws of one position are equal."""

    agreement: float

    def __call__(self, logits_V: Tensor, before: Sequence[int]) -> Tensor:
        vocab = len(logits_V)
        lot = _number(logits_V[:READ].detach().float().cpu().numpy().tobytes())
        common = _number(f"{len(before)} {before[-1]}".encode())
        chosen = common if lot / 2**48 < math.sqrt(self.agreement) else lot
        said_V = torch.zeros_like(logits_V)
        said_V[chosen % vocab] = 1.0
        return said_V


def _number(bits: bytes) -> int:
    """An even draw from 0 to 2^48."""
    return int.from_bytes(blake2b(bits, digest_size=6).digest(), "little")
