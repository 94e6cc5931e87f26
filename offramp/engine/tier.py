"""How wide a chunk is made before it meets the kernels, and whether that makes rows exact here.

PyTorch's kernels give a row other bits when other numbers of rows share the call. In the exact tier every call has
16 rows of one sequence, so a token's bits depend on nothing but its sequence (design section 4). The fast tier
pads nothing: its results agree within a tolerance.

Shapes: T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.errors import UsageError
from offramp.mixers.base import RUN_LIMIT
from offramp.models.base import Block, Model


@dataclass(frozen=True)
class Tier:
    """name: what the engine promises, "exact" or "tolerance". bucket: tokens a call is padded to (0: none)."""

    name: str
    bucket: int

    def width(self, n: int) -> int:
        """The chunk width T for n tokens."""
        assert n <= RUN_LIMIT
        return self.bucket or n


EXACT = Tier("exact", RUN_LIMIT)
FAST = Tier("tolerance", 0)


def choose_tier(wanted: str, model: Model) -> Tier:
    """The tier that can be kept: "exact" becomes a tolerance tier (same padding) where the self-test fails.

    Raises UsageError for another word than exact or fast.
    """
    if wanted == "fast":
        return FAST
    if wanted != "exact":
        raise UsageError(f"unknown tier {wanted!r}. Available: exact, fast.")
    return EXACT if self_test(model) else Tier("tolerance", RUN_LIMIT)


@torch.inference_mode()
def self_test(model: Model) -> bool:
    """Whether a token's bits are the same at every place of a chunk, alone or not, on this machine.

    One block of each kind and the head are tried: blocks of a kind have the same shapes.
    """
    width = model.config.hidden_size
    dtype = model.embed(torch.zeros(1, 1, dtype=torch.long, device=_device(model))).dtype
    generator = torch.Generator().manual_seed(0)
    tokens_TD = torch.randn(RUN_LIMIT, width, generator=generator).to(_device(model), dtype)
    kinds: dict[type, Block] = {}
    for block in model.blocks:
        assert isinstance(block, Block)
        kinds.setdefault(type(block.mixer), block)
    return _head_exact(model, tokens_TD) and all(_block_exact(block, tokens_TD) for block in kinds.values())


def _device(model: Model) -> torch.device:
    return next(model.parameters()).device


def _head_exact(model: Model, tokens_TD: Tensor) -> bool:
    straight = model.logits(tokens_TD[None])[0]
    turned = model.logits(tokens_TD.roll(5, 0)[None])[0].roll(-5, 0)
    return torch.equal(straight, turned)


def _block_exact(block: Block, tokens_TD: Tensor) -> bool:
    together, alone = (block.mixer.init_state(1, 2 * RUN_LIMIT) for _ in range(2))
    at_once = block(tokens_TD[None], together, [0], [RUN_LIMIT])[0]
    one_by_one = []
    for t in range(RUN_LIMIT):
        chunk = tokens_TD.roll(-t, 0)[None]
        one_by_one.append(block(chunk, alone, [0], [1])[0, 0])
        block.mixer.commit(alone, [0], [1])
    return torch.equal(at_once, torch.stack(one_by_one))
