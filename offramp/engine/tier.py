"""How wide a chunk is made before it meets the kernels, and whether that makes rows exact here.

PyTorch's kernels give a row other bits when other numbers of rows share the call. In the exact tier every call has
16 rows of one sequence, so a token's bits depend on nothing but its sequence (design section 4). The fast tier
pads nothing: its results agree within a tolerance.

Shapes: T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from offramp.errors import UsageError
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

    def width(self, n: int) -> int:
        """The chunk width T for n tokens."""
        assert n <= RUN_LIMIT
        return self.bucket or n


EXACT = Tier("exact", RUN_LIMIT)
FAST = Tier("tolerance", 0)

PROMPT = 70
"""Tokens before the chunk that the self-test tries: some whole blocks of attention, and a part of one."""


def choose_tier(wanted: str, model: Model, exits: Sequence[Exit] = ()) -> Tier:
    """The tier that can be kept: "exact" becomes a tolerance tier (same padding) where the self-test fails.

    Raises UsageError for another word than exact or fast.
    """
    if wanted == "fast":
        return FAST
    if wanted != "exact":
        raise UsageError(f"unknown tier {wanted!r}. Available: exact, fast.")
    return EXACT if self_test(model, exits) else Tier("tolerance", RUN_LIMIT)


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
    straight = model.logits(tokens_TD[None])[0]
    turned = model.logits(tokens_TD.roll(5, 0)[None])[0].roll(-5, 0)
    return torch.equal(straight, turned)


def _chunk_exact(module: nn.Module, parts: list[Stateful], prompt_TD: Tensor, tokens_TD: Tensor) -> bool:
    """A chunk of tokens after a prompt, against the same tokens one by one, each first among other rows.

    parts: those of the module that have a state each: a block itself, an exit's gate and bridge.
    """
    together, alone = ([part.mixer.init_state(1, PROMPT + 2 * RUN_LIMIT) for part in parts] for _ in range(2))
    for states in (together, alone):
        for part, state in zip(parts, states, strict=True):
            part.prefill(prompt_TD[None], state, [0])
    at_once = _outputs(module(tokens_TD[None], *together, [0], [RUN_LIMIT]))
    one_by_one = []
    for t in range(RUN_LIMIT):
        one_by_one.append(_outputs(module(tokens_TD.roll(-t, 0)[None], *alone, [0], [1]))[:1])
        for part, state in zip(parts, alone, strict=True):
            part.mixer.commit(state, [0], [state.provisional[0]])
    return torch.equal(at_once, torch.cat(one_by_one))


def _outputs(given: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """A row of numbers a token `[T, .]`: a block's hidden state, or an exit's gate logit and hidden state."""
    if isinstance(given, Tensor):
        return given[0]
    gate_RT, bridged_RTD = given
    return torch.cat((gate_RT[..., None].to(bridged_RTD.dtype), bridged_RTD), -1)[0]
