"""A model's parts, and its head, as kernels; or why not.

Shapes: N tokens, packed, D width, V vocabulary.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

import offramp.lowering.attention
import offramp.lowering.blocks
import offramp.lowering.mamba
import offramp.lowering.mamba2  # noqa: F401  (each says what it knows)
from offramp.exits.base import Exit
from offramp.lowering.chain import NativePart
from offramp.lowering.exits import leave
from offramp.lowering.kernels import Kernels, NotLowered, apply, kernels
from offramp.models.base import Block, Model
from offramp.native.library import Library, find, why_not
from offramp.native.program import Builder
from offramp.native.structures import FORMATS
from offramp.propagation.base import Stateful


class Lowering:
    """Makes parts and the head of one model for one library."""

    def __init__(self, library: Library, width: int) -> None:
        self.library, self.width = library, width

    def part(self, module: Stateful, slots: int, max_len: int) -> NativePart:
        """A module with its memory. Raises NotLowered."""
        state = module.mixer.init_state(slots, max_len)
        assert isinstance(module, nn.Module)
        return NativePart(module, state, kernels(module, state), self.library, self.width)

    def head(self, model: Model) -> Head:
        return Head(self.library, model, self.width)

    @torch.inference_mode()
    def attempt(self, module: Stateful) -> Kernels:
        """A module's kernels over a memory of nothing. Raises NotLowered."""
        made, to = self.part(module, 1, 1).kernels, Builder(self.library)
        made.run(to, to.register(self.width))
        return made

    def covers(self, exit: Exit) -> bool:
        """Whether there are kernels for its gate and its bridge."""
        to = Builder(self.library)
        try:
            leave(exit, self.attempt(exit.gate), self.attempt(exit.bridge), to, to.register(self.width))
        except NotLowered:
            return False
        return True


class Head:
    """The shared norm and head: logits of hidden states at any depth."""

    def __init__(self, library: Library, model: Model, width: int) -> None:
        """Raises NotLowered."""
        to = Builder(library)
        x = to.register(width)
        self._program = to.build(x, [apply(model.head, to, apply(model.norm, to, x))])

    def __call__(self, x_ND: Tensor) -> Tensor:
        """Logits `[N, V]`, float32."""
        N = len(x_ND)
        [logits_NV] = self._program.run(x_ND, range(N), [1] * N)
        return logits_NV.clone()


def find_lowering(model: Model) -> Lowering | None:
    """None where there are no kernels for all of its blocks and its head; `why_not_lowered` says why."""
    return None if why_not_lowered(model) else Lowering(_library(), model.config.hidden_size)


def why_not_lowered(model: Model) -> str:
    """Why PyTorch runs this model, in a sentence; "" where kernels do."""
    weight = next(model.parameters())
    if weight.device.type != "cpu" or weight.dtype not in FORMATS:
        return f"there are no kernels for {weight.dtype} on {weight.device.type}"
    if find() is None:
        return why_not() or "OFFRAMP_KERNELS is none"
    lowering = Lowering(_library(), model.config.hidden_size)
    try:
        lowering.head(model)
        for block in model.blocks:
            lowering.attempt(cast(Block, block))
    except NotLowered as why:
        return str(why)
    return ""


def _library() -> Library:
    library = find()
    assert library is not None
    return library
