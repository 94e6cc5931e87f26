"""A token leaves at random, at a given rate: what any gate must beat at the same rate.

The draw is a hash of the bits of the token's hidden state and of the exit's number, so it belongs to the row alone,
whatever the schedule, as long as the hidden states do (the engine's exact tier).
"""

from __future__ import annotations

from hashlib import blake2b

import torch
from torch import Tensor

from offramp.policies.base import ScorePolicy, Signal


class Random(ScorePolicy):
    """A number drawn for the token, even in (0, 1): it leaves with probability 1 - threshold."""

    def score(self, signal: Signal) -> Tensor:
        rows_RD = signal.leaving_RD.detach().float().cpu().numpy()
        drawn = [_uniform(row_D.tobytes(), signal.exit) for row_D in rows_RD]
        return torch.tensor(drawn, dtype=torch.float64, device=signal.gate_R.device)


def _uniform(bits: bytes, exit: int) -> float:
    digest = blake2b(bits, digest_size=6, salt=exit.to_bytes(2, "little")).digest()
    return (int.from_bytes(digest, "little") + 0.5) / 2**48
