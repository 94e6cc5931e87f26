"""How many tokens meet the kernels in one call, and whether that makes rows exact here.

PyTorch's kernels give a token other bits when other numbers of tokens share the call. In the exact tier every call
has 16, of one sequence or of several, so a token's bits depend on nothing but its sequence (design section 4). The
fast tier puts everything into one call and pads nothing: its results agree within a tolerance.

Shapes: T tokens, N tokens of all rows, packed, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from offramp.exits.base import Exit
from offramp.mixers.base import RUN_LIMIT
from offramp.models.base import Model
from offramp.models.likeness import likeness
from offramp.propagation.base import Stateful


@dataclass(frozen=True)
class Tier:
    """name: what the engine promises, "exact" or "tolerance". bucket: tokens a call is padded to (0: none)."""

    name: str
    bucket: int

    def calls(self, n: Sequence[int]) -> Iterator[slice]:
        """Which rows, of n[i] tokens each, share a call: as many as fit, in their order."""
        start = tokens = 0
        for i, count in enumerate(n):
            assert 0 < count <= RUN_LIMIT
            if self.bucket and tokens + count > self.bucket:
                yield slice(start, i)
                start, tokens = i, 0
            tokens += count
        yield slice(start, len(n))

    def pad(self, x_ND: Tensor) -> Tensor:
        """Zero tokens behind the real ones, up to the bucket."""
        missing = max(0, self.bucket - len(x_ND))
        return nn.functional.pad(x_ND, (0, 0, 0, missing)) if missing else x_ND


FAST = Tier("tolerance", 0)

PROMPT = 200
"""Tokens before the chunk that the self-test tries: a whole tile of attention, and a part of one."""


@torch.inference_mode()
def self_test(model: Model, exits: Sequence[Exit] = ()) -> bool:
    """Whether a token's bits are the same at every place of a chunk, alone or not, on this machine.

    The head, and one block and exit of each kind: modules that are made alike.
    """
    device = next(model.parameters()).device
    dtype = model.embed(torch.zeros(1, 1, dtype=torch.long, device=device)).dtype
    generator = torch.Generator().manual_seed(0)
    tokens_TD = torch.randn(PROMPT + RUN_LIMIT, model.config.hidden_size, generator=generator)
    tokens_TD = tokens_TD.to(device, dtype)
    blocks = {likeness(block): (block, [block]) for block in model.blocks}
    pairs = {likeness(exit.gate) + likeness(exit.bridge): (exit, [exit.gate, exit.bridge]) for exit in exits}
    return _head_exact(model, tokens_TD[:RUN_LIMIT]) and all(
        _chunk_exact(module, cast(list[Stateful], parts), tokens_TD[:PROMPT], tokens_TD[PROMPT:])
        for module, parts in [*blocks.values(), *pairs.values()]
    )


def _head_exact(model: Model, tokens_TD: Tensor) -> bool:
    straight, turned = model.logits(tokens_TD), model.logits(tokens_TD.roll(5, 0)).roll(-5, 0)
    return torch.equal(straight, turned)


def _chunk_exact(module: nn.Module, parts: list[Stateful], prompt_TD: Tensor, tokens_TD: Tensor) -> bool:
    """A chunk of tokens after a prompt, against the same tokens one by one, each beside tokens of another row.

    parts: those of the module that have a state each: a block itself, an exit's gate and bridge.
    """
    together, apart = ([part.mixer.init_state(4, PROMPT + 2 * RUN_LIMIT) for part in parts] for _ in range(2))
    for states in (together, apart):
        for part, state in zip(parts, states, strict=True):
            part.prefill(prompt_TD[None], state, [3])
    at_once = _outputs(module(tokens_TD, *together, [3], [RUN_LIMIT]))
    one_by_one = []
    for t in range(RUN_LIMIT):
        place = t % (RUN_LIMIT - 1) + 1  # of the token in this call; before it comes the other row
        rolled_TD = tokens_TD.roll(place - t, 0)
        one_by_one.append(_outputs(module(rolled_TD, *apart, [0, 3], [place, 1]))[place : place + 1])
        for part, state in zip(parts, apart, strict=True):
            part.mixer.commit(state, [0, 3], [0, 1])
    return torch.equal(at_once, torch.cat(one_by_one))


def _outputs(given: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """A row of numbers a token `[N, .]`: a block's hidden state, or an exit's gate logit and hidden state."""
    if isinstance(given, Tensor):
        return given
    gate_N, bridged_ND = given
    return torch.cat((gate_N[:, None].to(bridged_ND.dtype), bridged_ND), -1)
