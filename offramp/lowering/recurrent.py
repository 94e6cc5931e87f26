"""What Mamba's and Mamba-2's kernels share: the tape with its convolution, and a mixer's verbs made of their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from offramp.lowering.kernels import Mixing, NotLowered
from offramp.mixers._recurrent import Recurrent, RecurrentState
from offramp.native.emit.conv import MOST_TAPS, Tape
from offramp.native.emit.shift import shift
from offramp.native.program import Builder, Register

M = TypeVar("M", bound=Recurrent)
S = TypeVar("S", bound=RecurrentState)


def recurrent(
    mixer: M,
    state: S,
    run: Callable[[M, S, Builder, Register, Register], None],
    advance: Callable[[M, S, Builder, Register], None],
    replay: Callable[[M, S, Builder], None],
) -> Mixing:
    """The verbs of a mixer with a tape. Raises NotLowered for more taps than there is room for."""
    taps = mixer.conv1d.kernel_size[0]
    if taps > MOST_TAPS:
        raise NotLowered(f"a convolution of more than {MOST_TAPS} taps has no kernels")
    return Mixing(
        run=partial(run, mixer, state),
        advance=partial(advance, mixer, state),
        claim=partial(mixer.claim, state),
        replay=partial(replay, mixer, state),
        shift=partial(shift, tape=state.tape, window=taps - 1),
    )


def tape_of(mixer: Recurrent, state: RecurrentState) -> Tape:
    """The tokens' inputs, and the convolution that they meet."""
    return Tape(state.tape, mixer.conv1d.weight[:, 0], mixer.conv1d.bias)
