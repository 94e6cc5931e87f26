"""Every propagation keeps the contract of `propagation/base.py`, on attention, Mamba-2 and both in one stack."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from mixed_stacks import mixed
from random_models import Tiny, tiny

from offramp import registry
from offramp.engine.engine import Engine
from offramp.engine.request import Request
from offramp.errors import UsageError
from offramp.mixers._entries import AttentionState
from offramp.mixers.attention import Attention
from offramp.ops.rope import Rope
from offramp.propagation.base import Part, Propagation

FOLDER = "offramp.propagation"
PROMPT = (3, 1, 4, 1, 5)
MAKE: dict[str, Callable[[str], Tiny]] = {
    "attention": lambda bridge: tiny("llama", "mamba", bridge, 1, torch.float64),
    "mamba2": lambda bridge: tiny("mamba2", "transformer", bridge, 1, torch.float64),
    "mixed": lambda bridge: mixed("mixed", "mamba", bridge, 1, torch.float64)[0],
    "late": lambda bridge: mixed("late", "linear", bridge, 1, torch.float64)[0],
}


@torch.inference_mode()
def after_exits(propagation: str, stack: str = "attention", bridge: str = "none", exits: int = 1) -> Engine:
    """An engine in whose slot 0 the first `exits` generated tokens have left, one after another, at the first exit."""
    engine = MAKE[stack](bridge).engine()
    engine.add(Request(PROMPT, propagation, "always", run_max=8, ignore_eos=True))
    engine._admit()
    [row] = engine._running.values()
    for _ in range(1 + exits):
        engine.step()
        engine.check_integrity()
    assert row.run == exits
    return engine


def deeper(engine: Engine) -> list[Part]:
    """The blocks behind the first exit."""
    segments = engine.frontier.segments[1:]
    return [part for segment in segments for part in segment.blocks]


def saved(part: Part) -> dict[str, torch.Tensor]:
    return part.module.mixer.snapshot(part.state, 0)


def entries(part: Part) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Keys and values `[T, G, K]` and positions `[T]` of all that an attention block holds of slot 0."""
    assert isinstance(part.state, AttentionState)
    return part.state.read(0, 0, part.state.written(0))


def last_own(part: Part) -> int:
    """The number of its last entry that is no copy."""
    assert isinstance(part.state, AttentionState)
    return part.state.last_own(0)


@pytest.mark.parametrize("stack", MAKE)
@pytest.mark.parametrize("name", registry.names(FOLDER))
def test_a_token_that_left_waits_or_is_settled(name: str, stack: str) -> None:
    """One of the two, in all deeper segments; either way positions go on and nothing provisional is left behind."""
    kind = registry.find(FOLDER, name, Propagation)
    assert kind.waits or not kind.judged
    frontier = after_exits(name, stack, "last_block", exits=3).frontier
    frontier.check_integrity(0)
    seen = len(PROMPT) + 3
    if kind.waits:
        assert [segment.frontier(0) for segment in frontier.segments] == [seen] + [len(PROMPT)] * 3
        assert frontier.segments[1].ring.waiting[0] == 3
    else:
        parts = [part for segment in frontier.segments for part in segment.parts]
        assert {(part.state.position[0], part.state.provisional[0]) for part in parts} == {(seen, 0)}


@pytest.mark.parametrize("name", ["copy_block", "copy_token"])
def test_mamba_blocks_and_listeners_hear_nothing_of_copies(name: str) -> None:
    for stack in ("mamba2", "mixed"):
        skip, ours = after_exits("skip", stack, exits=2), after_exits(name, stack, exits=2)
        reached = [part for part in deeper(ours) if part.keeps_entries]
        for part, other in zip(ours.frontier.parts.values(), skip.frontier.parts.values(), strict=True):
            if part not in reached:
                _assert_equal(saved(part), saved(other))


def _assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


@pytest.mark.parametrize(("stack", "source"), [("attention", 1), ("mixed", 1)])
def test_copy_block_takes_the_nearest_entry_above(stack: str, source: int) -> None:
    engine = after_exits("copy_block", stack, exits=2)
    *above, _ = entries(engine.frontier.parts[f"blocks.{source}"])
    for part in deeper(engine):
        if isinstance(part.module.mixer, Attention):
            *mine, positions = entries(part)
            assert positions.tolist() == list(range(7)) and last_own(part) == 4
            for ours_TGK, theirs_TGK in zip(mine, above, strict=True):
                assert torch.equal(ours_TGK[5:], theirs_TGK[5:])
                assert not torch.equal(ours_TGK[4], theirs_TGK[4])


def test_copy_block_without_attention_above_is_skip() -> None:
    skip, ours = after_exits("skip", "late", exits=2), after_exits("copy_block", "late", exits=2)
    for part, other in zip(deeper(ours), deeper(skip), strict=True):
        _assert_equal(saved(part), saved(other))


def test_copy_token_turns_the_last_own_key_once() -> None:
    """Three tokens leave: each repeats the prompt's last entry, not a copy of a copy."""
    for part in deeper(after_exits("copy_token", exits=3)):
        (k_TGK, v_TGK, _), mixer = entries(part), part.module.mixer
        assert last_own(part) == 4
        cos, sin = Rope(mixer.rope.theta).table(4, mixer.head_dim, torch.device("cpu"))
        for place in (5, 6, 7):
            key, distance = k_TGK[4], place - 4
            left, right = key.chunk(2, -1)
            turned = key * cos[distance] + torch.cat((-right, left), -1) * sin[distance]
            torch.testing.assert_close(k_TGK[place], turned, rtol=1e-12, atol=1e-12)
            assert torch.equal(v_TGK[place], v_TGK[4])


@pytest.mark.parametrize("name", ["copy_block", "copy_token", "skip", "project"])
def test_last_block_keeps_the_bridges_own_entry(name: str) -> None:
    """Its last own entry is the newest after every exit: none of them is a copy."""
    for exits in (1, 2):
        last = after_exits(name, "attention", "last_block", exits).frontier.last_block
        *_, positions = entries(last)
        assert positions.tolist() == list(range(5 + exits)) and last_own(last) == 4 + exits


def test_blocks_of_two_shapes_cannot_copy() -> None:
    """Refused when the request is made, and only the propagation that would copy between them."""
    setup = tiny("llama", seed=1)
    block = setup.model.blocks[6]
    block.mixer = Attention(32, heads=4, kv_heads=4, head_dim=16)
    engine = setup.engine()
    with pytest.raises(UsageError, match=r"block 7 .*kv_heads=4.* of block 2 .*kv_heads=2.*Use copy_token"):
        engine.add(Request(PROMPT, "copy_block"))
    engine.add(Request(PROMPT, "copy_token"))
    setup.plain().add(Request(PROMPT, "copy_block"))  # nothing leaves: nothing is copied
