"""Blocks as kernels: the residual stream is one register that mixer and MLP add to."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from offramp.lowering.kernels import Kernels, Mixing, apply, exactly, kernels, mixing
from offramp.lowering.plain import add
from offramp.mixers.base import State
from offramp.models.base import Block
from offramp.models.families.gpt2 import PlacedBlock
from offramp.models.families.gpt_neox import ParallelBlock
from offramp.native.emit.elementwise import add_positions
from offramp.native.program import Builder, Register

Steps = Callable[[Block, Mixing, Builder, Register], Register]


@kernels.register
def _block(block: Block, state: State) -> Kernels:
    exactly(block, Block)
    return _made(block, state, _in_turn, _advance)


@kernels.register
def _parallel(block: ParallelBlock, state: State) -> Kernels:
    exactly(block, ParallelBlock)
    return _made(block, state, _side_by_side, _advance)


@kernels.register
def _placed(block: PlacedBlock, state: State) -> Kernels:
    exactly(block, PlacedBlock)
    return _made(block, state, _after_places(_in_turn), _after_places(_advance))


def _made(block: Block, state: State, run: Steps, advance: Steps) -> Kernels:
    mixed = mixing(block.mixer, state)
    return Kernels(partial(run, block, mixed), partial(advance, block, mixed), mixed)


def _in_turn(block: Block, mixed: Mixing, to: Builder, x: Register) -> Register:
    with to.scratch():
        mixed.run(to, apply(block.norm, to, x), x)
    if block.mlp is not None and block.mlp_norm is not None:
        with to.scratch():
            add(block.mlp, to, apply(block.mlp_norm, to, x), x)
    return x


def _side_by_side(block: Block, mixed: Mixing, to: Builder, x: Register) -> Register:
    assert block.mlp is not None and block.mlp_norm is not None
    with to.scratch():
        beside = apply(block.mlp_norm, to, x)
        mixed.run(to, apply(block.norm, to, x), x)
        add(block.mlp, to, beside, x)
    return x


def _advance(block: Block, mixed: Mixing, to: Builder, x: Register) -> Register:
    with to.scratch():
        mixed.advance(to, apply(block.norm, to, x))
    return x


def _after_places(steps: Steps) -> Steps:
    """What was learned for each position is added first; the mixer's part, the program's next, knows the positions."""

    def placed(block: Block, mixed: Mixing, to: Builder, x: Register) -> Register:
        assert isinstance(block, PlacedBlock)
        add_positions(to, x, block.positions.weight, to.parts)
        return steps(block, mixed, to, x)

    return placed
