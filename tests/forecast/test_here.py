"""This machine's clock: what is watched is there, what lies between is on a line."""

from __future__ import annotations

import math

import pytest
import torch
from random_models import tiny

from offramp import registry
from offramp.errors import UsageError
from offramp.exits.base import ExitConfig
from offramp.exits.exit_set import ExitSet
from offramp.exits.untrained import untrained_exits
from offramp.forecast import here, turns
from offramp.forecast.here import Here
from offramp.forecast.setting import Setting
from offramp.forecast.turns import CHUNKS, Speaker, Turns, watch
from offramp.models.base import Model

GATE = ExitConfig("linear", "none", (1,), 32, 1e-5)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (turns, here):
        monkeypatch.setattr(module, "REPEATS", 2)


@pytest.mark.parametrize("backbone", ["llama", "mamba2"])
def test_turns_of_an_engine(backbone: str, quick: None) -> None:
    seen = watch(tiny(backbone).model, untrained_exits((2,), 8, 32), 3)
    assert seen.rows == 3 and seen.plain > 0 and set(seen.deep) == set(CHUNKS)
    assert 0 < seen.shallow and 0 <= seen.draft and all(share > 0 for share in seen.deep.values())


def test_rows_that_end_begin_again(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_LEN", turns.SHORTEST)
    monkeypatch.setattr(turns, "REPEATS", 6)  # more cycles than fit one context
    assert set(watch(tiny().model, untrained_exits((2,), 8, 32), 2).deep) == set(CHUNKS)


@pytest.mark.parametrize("rows", [1, 3])
def test_turns_are_of_whole_cycles_wherever_rows_end(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where one ends between two cycles: what begins it again is no cycle."""
    monkeypatch.setattr(turns, "MAX_LEN", turns.SHORTEST)
    drafting = Speaker(tiny().model, untrained_exits((2,), 8, 32), rows)
    alone = Speaker(tiny().model, None, rows)
    assert {len(drafting.cycle()) - 2 for _ in range(60)} >= set(CHUNKS)
    assert min(len(drafting.cycle()) for _ in range(60)) >= 2
    assert len({len(alone.cycle()) for _ in range(60)}) == 1


def test_gates_that_are_no_numbers_are_not_waited_for(quick: None) -> None:
    setup = tiny("llama", "linear")
    for item in setup.exits:
        torch.nn.init.constant_(item.gate.out.bias, math.nan)
    with pytest.raises(UsageError, match="no token leaves at this exit"):
        watch(setup.model, setup.exits, 1)


def test_a_context_without_room(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_LEN", 20)
    with pytest.raises(UsageError, match="a context of 20 tokens is too short"):
        watch(tiny().model, untrained_exits((2,), 8, 32), 1)


@pytest.mark.parametrize("backbone", ["llama", "mamba"])
def test_every_propagation_that_serves_is_timed(backbone: str, quick: None) -> None:
    clock = Here(tiny(backbone).model, GATE, (2, 4, 6), (1, 2))
    for name in registry.names("offramp.propagation"):
        assert clock.serves(Setting(2, propagation=name))
        for after in (2, 4, 6):
            timings = clock.timings(Setting(after, propagation=name), 2)
            assert timings.shallow.seconds(2) > 0 and timings.deep.seconds(2) > 0


def test_between_two_depths_lies_a_straight_line(monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    def watched(model: Model, exits: ExitSet, rows: int) -> Turns:
        """Plain turns of a second a row; every block an eighth of one, a gate a quarter of a block, and a chunk's
        tokens cost alike."""
        share = exits.after[0] / 8
        gate = 0.0 if exits.config.gate == "abstaining" else 1 / 32
        deep = {count: (1 - share) * (count + 1) for count in CHUNKS}
        return Turns(rows, 1.0 * rows, share + gate, 0.125, deep)

    monkeypatch.setattr(here, "watch", watched)
    clock = Here(tiny().model, GATE, (1, 2, 4, 6, 7), (1, 4))
    assert list(clock.turns[1]) == [2, 6], "the deepest in the first quarter, the first in the last"
    for after in (1, 2, 4, 6, 7):
        timings = clock.timings(Setting(after, gated=False), 4)
        assert timings.shallow.seconds(4) == pytest.approx(4 * after / 8)
        assert timings.draft.seconds(4) == pytest.approx(4 * 0.125)
        assert timings.deep.seconds(16) == pytest.approx(4 * 4 * (1 - after / 8))
        assert timings.deep.seconds(1) == pytest.approx(1 - after / 8), "of one row"
    shallow = clock.timings(Setting(4), 4).shallow.seconds(4)
    assert shallow == pytest.approx(4 * (4 / 8 + 1 / 32)), "with its gate"
    borrowed = clock.timings(Setting(2, "last_block"), 4).draft.seconds(4)
    assert borrowed - 4 * 0.125 == pytest.approx(clock.last_block.seconds(4))
