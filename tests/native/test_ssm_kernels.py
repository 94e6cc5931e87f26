"""Mamba-2's recurrence against the mixer, on every schedule, and replayed."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from kernel_schedules import (
    MOST,
    SLOTS,
    assert_nan_stays_in_its_row,
    assert_same_on_every_schedule,
    each_isa,
    random_inputs,
    rounds,
)
from recurrent_rig import RecurrentRig, assert_advance_leaves_the_same_bits
from torch import Tensor

from offramp.mixers.mamba2 import Mamba2, Mamba2State
from offramp.native.emit import ssm
from offramp.native.emit.columns import columns
from offramp.native.emit.conv import Tape, convolve
from offramp.native.program import Builder

SAMPLES = {
    "plain": Mamba2(48, 96, head_dim=32, state=64),
    "wide state": Mamba2(48, 96, head_dim=48, state=128, bias=True),
    "groups": Mamba2(48, 8 * 16, head_dim=16, state=16, groups=4, dt_limit=(0.1, 0.6)),
    "odd": Mamba2(48, 3 * 7, head_dim=7, state=19, taps=3, conv_bias=False),
}
for seed, mixer in enumerate(SAMPLES.values()):
    generator = torch.Generator().manual_seed(seed)
    for weight in mixer.parameters():
        weight.data = torch.randn(weight.shape, generator=generator) * (0.5 if weight.dim() < 2 else 0.2)


class SsmRig(RecurrentRig):
    """Convolution and recurrence between the mixer's products. x is what in_proj gives: z, xBC, dt; y comes before
    the norm."""

    def __init__(self, isa: str, mixer: Mamba2, threads: int = 1) -> None:
        super().__init__(isa, threads)
        state = mixer.init_state(SLOTS, 1)
        assert isinstance(state, Mamba2State)
        self.mixer, self.memory, self.ssm = mixer, state, state.ssm
        self.window = state.tape.shape[1] - MOST
        state.tape[:, self.window :] = torch.nan
        state.ring_dt.fill_(torch.nan)
        state.ssm[1] = torch.nan
        self.width = mixer.in_proj.out_features
        self._build()

    def final(self, slot: int) -> list[Tensor]:
        return [self.ssm[self.base[slot], slot], self.memory.window[slot]]

    def shift(self, slot: int, count: int) -> None:
        tape = self.memory.tape[slot]
        tape[: self.window] = tape[count : count + self.window].clone()

    def _build(self) -> None:
        mixer, state = self.mixer, self.memory
        tape = Tape(state.tape, mixer.conv1d.weight[:, 0], mixer.conv1d.bias)
        recurrence = ssm.SsmMemory(
            state.ssm, state.ring_dt, mixer.dt_bias, mixer._A(), mixer.D, mixer.dt_limit, mixer.groups
        )
        z, raw = mixer.inner, mixer.inner + mixer.conv1d.in_channels
        to = Builder(self.library)
        part, x = to.part(), to.register(self.width)
        u = convolve(to, part, tape, columns(x, z))
        self.run = to.build(x, [ssm.run(to, part, recurrence, u, columns(x, raw))])
        to = Builder(self.library)
        part, x = to.part(), to.register(self.width)
        ssm.advance(to, part, recurrence, convolve(to, part, tape, columns(x, z)), columns(x, raw))
        self.advances = to.build(x, [])
        to = Builder(self.library)
        part, x = to.part(), to.register(1)
        ssm.replay(to, part, recurrence, convolve(to, part, tape, None))
        self.replay = to.build(x, [])


@each_isa
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", SAMPLES)
def test_equals_the_mixer_on_a_random_schedule(isa: str, name: str, seed: int) -> None:
    mixer = SAMPLES[name]
    rig, state = SsmRig(isa, mixer, threads=2), mixer.init_state(SLOTS, 1)
    assert isinstance(state, Mamba2State)
    with torch.inference_mode():
        for i, step in enumerate(rounds(seed, 10)):
            x_ND = random_inputs(i, sum(step.n), 48)
            expected = mixer(x_ND, state, step.rows, step.n)
            packed = mixer.in_proj(x_ND)
            y = rig.push(step.rows, step.n, packed).unflatten(1, (mixer.heads, -1))
            torch.testing.assert_close(
                mixer._out(y, packed[:, : mixer.inner]), expected, rtol=1e-5, atol=1e-5
            )
            if step.keep is not None:
                for verb in (rig.commit, partial(mixer.commit, state)):
                    verb(list(step.keep), list(step.keep.values()))
            for slot in range(SLOTS):
                kept = rig.provisional[slot]
                theirs = (
                    state.ssm[state.base[slot], slot],
                    state.window[slot],
                    state.ring_dt[slot, :kept],
                )
                ours = (*rig.final(slot), rig.memory.ring_dt[slot, :kept])
                for one, other in zip(ours, theirs, strict=True):
                    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@each_isa
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SAMPLES)
def test_same_on_every_schedule(isa: str, name: str, seed: int) -> None:
    assert_same_on_every_schedule(partial(SsmRig, isa, SAMPLES[name]), seed)


@each_isa
@pytest.mark.parametrize("name", SAMPLES)
def test_advance_leaves_the_same_bits(isa: str, name: str) -> None:
    ran, advanced = SsmRig(isa, SAMPLES[name]), SsmRig(isa, SAMPLES[name], threads=3)
    assert_advance_leaves_the_same_bits(ran, advanced, random_inputs(0, 12, ran.width))


@each_isa
@pytest.mark.parametrize("threads", [2, 3, 4])
@pytest.mark.parametrize("name", SAMPLES)
def test_threads_change_no_bit_of_one_row(isa: str, name: str, threads: int) -> None:
    one, many = SsmRig(isa, SAMPLES[name]), SsmRig(isa, SAMPLES[name], threads)
    x_ND = random_inputs(0, 16, one.width)
    assert torch.equal(one.push([3], [16], x_ND), many.push([3], [16], x_ND))


@each_isa
@pytest.mark.parametrize("name", SAMPLES)
def test_nan_stays_in_its_row(isa: str, name: str) -> None:
    assert_nan_stays_in_its_row(partial(SsmRig, isa, SAMPLES[name]))
