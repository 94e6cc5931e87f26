"""Mamba-2's mixer as kernels.

Shapes: E inner width, C convolved channels, H heads.
"""

from __future__ import annotations

from offramp.lowering.kernels import Mixing, exactly, mixing
from offramp.lowering.plain import whole
from offramp.lowering.recurrent import recurrent, tape_of
from offramp.mixers.base import State
from offramp.mixers.mamba2 import Mamba2, Mamba2State
from offramp.native.emit import ssm
from offramp.native.emit.columns import columns
from offramp.native.emit.conv import convolve
from offramp.native.emit.linear import linear
from offramp.native.emit.norm import gated_group_norm
from offramp.native.program import Builder, Register


@mixing.register
def _mamba2(mixer: Mamba2, state: State) -> Mixing:
    exactly(mixer, Mamba2)
    assert isinstance(state, Mamba2State)
    return recurrent(mixer, state, _run, _advance, _replay)


def _run(mixer: Mamba2, state: Mamba2State, to: Builder, x: Register, onto: Register) -> None:
    part, channels = to.part(), mixer.conv1d.in_channels
    projected = whole(linear(to, x, mixer.in_proj.weight, mixer.in_proj.bias))  # z, then xBC, then dt
    convolved = convolve(to, part, tape_of(mixer, state), columns(projected, mixer.inner))
    raw = columns(projected, mixer.inner + channels)
    y = ssm.run(to, part, _memory(mixer, state), convolved, raw)
    norm = mixer.norm
    normed = gated_group_norm(to, y, projected, norm.weight, mixer.groups, norm.eps)
    linear(to, normed, mixer.out_proj.weight, mixer.out_proj.bias, out=onto, add=True)


def _advance(mixer: Mamba2, state: Mamba2State, to: Builder, x: Register) -> None:
    part, bias = to.part(), mixer.in_proj.bias
    weight = mixer.in_proj.weight[mixer.inner :]  # without the rows of z
    projected = whole(linear(to, x, weight, None if bias is None else bias[mixer.inner :]))
    convolved = convolve(to, part, tape_of(mixer, state), columns(projected), _driving(mixer))
    ssm.advance(to, part, _memory(mixer, state), convolved, columns(projected, mixer.conv1d.in_channels))


def _replay(mixer: Mamba2, state: Mamba2State, to: Builder) -> None:
    part = to.part()
    convolved = convolve(to, part, tape_of(mixer, state), None, _driving(mixer))
    ssm.replay(to, part, _memory(mixer, state), convolved)


def _driving(mixer: Mamba2) -> int:
    """The first of the convolved channels, x and B, are what drives the states; C only reads them."""
    return mixer.inner + mixer.groups * mixer.state


def _memory(mixer: Mamba2, state: Mamba2State) -> ssm.SsmMemory:
    weights = (mixer.dt_bias, mixer._A(), mixer.D)
    return ssm.SsmMemory(state.ssm, state.ring_dt, *weights, mixer.dt_limit, mixer.groups)
