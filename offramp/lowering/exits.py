"""Gates and bridges as kernels.

Shapes: N tokens of all rows in this call, packed, D width, r inner width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from offramp.exits.base import Bridge, Exit
from offramp.exits.bridges.block import Block as BlockBridge
from offramp.exits.bridges.last_block import LastBlock
from offramp.exits.bridges.lens import Lens
from offramp.exits.bridges.none import NoBridge
from offramp.exits.gates.linear import Linear
from offramp.exits.gates.mamba import Mamba
from offramp.exits.gates.mlp import Mlp
from offramp.exits.gates.transformer import Transformer
from offramp.exits.trunk import Trunk
from offramp.exits.untrained import Abstaining
from offramp.lowering.kernels import Kernels, Mixing, NotLowered, apply, kernels, mixing
from offramp.lowering.plain import whole
from offramp.mixers.base import State
from offramp.native.emit.elementwise import elementwise
from offramp.native.emit.linear import linear
from offramp.native.program import Builder, Register

GATES = (Linear, Mamba, Mlp, Transformer)
BRIDGES = (NoBridge, LastBlock, Lens, BlockBridge)


@kernels.register
def _trunk(trunk: Trunk, state: State) -> Kernels:
    """What gates and bridges read: norm, map, mixer."""
    if type(trunk) not in GATES + BRIDGES + (Abstaining,):
        raise NotLowered(f"{type(trunk).__name__} has no kernels")
    mixed = mixing(trunk.mixer, state) if trunk.mixer.remembers else None
    return Kernels(partial(_read, trunk, mixed), partial(_advance, trunk, mixed), mixed)


def _read(trunk: Trunk, mixed: Mixing | None, to: Builder, h: Register) -> Register:
    y = _narrow(trunk, to, h)
    if mixed is not None:
        kept = y if y is not h else whole(elementwise(to, y, y.width))
        mixed.run(to, kept, kept)
        y = kept
    return whole(elementwise(to, y, y.width, "relu")) if isinstance(trunk, Mlp) else y


def _advance(trunk: Trunk, mixed: Mixing | None, to: Builder, h: Register) -> None:
    if mixed is not None:
        mixed.advance(to, _narrow(trunk, to, h))


def _narrow(trunk: Trunk, to: Builder, h: Register) -> Register:
    return apply(trunk.down, to, apply(trunk.norm, to, h))


def leave(item: Exit, gate: Kernels, bridge: Kernels, to: Builder, h: Register) -> Sequence[Register]:
    """An exit's steps after a segment: what the bridge gives `[N, D]`; and the gate's logit `[N, 1]`, unless it
    abstains."""
    read = gate.run(to, h)
    beside = read if item.bridge.reads_gate else bridge.run(to, h)
    bridged = _bridged(item.bridge, to, h, beside)
    return (bridged,) if item.gate.abstains else (bridged, apply(item.gate.out, to, read))


def _bridged(bridge: Bridge, to: Builder, h: Register, y: Register) -> Register:
    if isinstance(bridge, NoBridge | LastBlock):
        return h
    assert isinstance(bridge, Lens | BlockBridge)
    bridged = whole(elementwise(to, h, h.width))
    linear(to, y, bridge.up.weight, bridge.up.bias, out=bridged, add=True)
    return bridged
