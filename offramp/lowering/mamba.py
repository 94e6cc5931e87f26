"""Mamba-1's mixer as kernels.

Shapes: E inner width, N state, K rank of the step size.
"""

from __future__ import annotations

from offramp.lowering.kernels import Mixing, exactly, mixing
from offramp.lowering.plain import whole
from offramp.lowering.recurrent import recurrent, tape_of
from offramp.mixers.base import State
from offramp.mixers.mamba import Mamba, MambaState
from offramp.native.emit import scan
from offramp.native.emit.columns import Columns, columns
from offramp.native.emit.conv import convolve
from offramp.native.emit.linear import linear
from offramp.native.emit.norm import rms_norm
from offramp.native.program import Builder, Register


@mixing.register
def _mamba(mixer: Mamba, state: State) -> Mixing:
    exactly(mixer, Mamba)
    assert isinstance(state, MambaState)
    return recurrent(mixer, state, _run, _advance, _replay)


def _run(mixer: Mamba, state: MambaState, to: Builder, x: Register, onto: Register) -> None:
    part, inner = to.part(), mixer.conv1d.in_channels
    projected = whole(linear(to, x, mixer.in_proj.weight, mixer.in_proj.bias))  # u, then z
    drive, C = _drive(mixer, state, to, part, columns(projected))
    y = scan.run(to, part, _memory(mixer, state), drive, C, columns(projected, inner))
    linear(to, y, mixer.out_proj.weight, mixer.out_proj.bias, out=onto, add=True)


def _advance(mixer: Mamba, state: MambaState, to: Builder, x: Register) -> None:
    part, inner, bias = to.part(), mixer.conv1d.in_channels, mixer.in_proj.bias
    weight = mixer.in_proj.weight[:inner]  # without the rows of z
    projected = whole(linear(to, x, weight, None if bias is None else bias[:inner]))
    drive, _ = _drive(mixer, state, to, part, columns(projected))
    scan.advance(to, part, _memory(mixer, state), drive)


def _replay(mixer: Mamba, state: MambaState, to: Builder) -> None:
    scan.replay(to, to.part(), _memory(mixer, state))


def _drive(
    mixer: Mamba, state: MambaState, to: Builder, part: int, inputs: Columns
) -> tuple[scan.Drive, Columns]:
    """What tokens do to the states, and C, which reads them. x_proj's outputs are the step size's, then B, then C."""
    u = convolve(to, part, tape_of(mixer, state), inputs)
    selected = whole(linear(to, u, mixer.x_proj.weight))
    begins = (0, mixer.rank, mixer.rank + mixer.state)
    low, B, C = (columns(selected, begin) for begin in begins)
    if mixer.rms_eps is not None:
        for each, width in ((low, mixer.rank), (B, mixer.state), (C, mixer.state)):
            rms_norm(to, each, None, mixer.rms_eps, width, out=each)
    raw = whole(linear(to, low, mixer.dt_proj.weight))
    return scan.Drive(columns(u), columns(raw), B), C


def _memory(mixer: Mamba, state: MambaState) -> scan.ScanMemory:
    weights = (mixer.dt_proj.bias, mixer._A(), mixer.D)
    return scan.ScanMemory(state.ssm, *state.rings, *weights)
