"""Windows of convolutions that move on."""

from __future__ import annotations

import torch
from kernel_schedules import random_inputs

from offramp.native.emit.shift import shift
from offramp.native.library import Library
from offramp.native.program import Builder


def test_all_windows_in_one_step(library: Library) -> None:
    library.threads = 3
    tapes = [
        random_inputs(0, 4 * 10, 33).view(4, 10, 33),
        random_inputs(1, 4 * 20, 8).view(4, 20, 8).bfloat16(),
    ]
    windows = (3, 7)
    expected = [tape.clone() for tape in tapes]
    for tape, window in zip(expected, windows, strict=True):
        for slot, n in ((0, 1), (2, 6)):
            tape[slot, :window] = tape[slot, n : n + window].clone()
    to = Builder(library)
    for tape, window in zip(tapes, windows, strict=True):
        shift(to, tape, window)
    assert len(to.steps) == 1
    to.build(None, []).run(None, [0, 2], [1, 6])
    for one, other in zip(tapes, expected, strict=True):
        assert torch.equal(one, other)
