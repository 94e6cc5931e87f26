"""What a token that left at the first exit has left in the deeper blocks (design 1's table)."""

from random import Random

import torch

from .mixers.attention import AttentionState, Entry, rotate
from .oracle import same
from .policies import Always
from .request import Request
from .row import Row
from .tiny import random_model

PROMPT = (3, 1, 4, 1, 5)


def after_one_exit(
    propagation: str, backbone: str = "attention", bridge: str = "none", exits: int = 1
) -> Row:
    """The first generated tokens have left at exit 0, one after another."""
    model = random_model(Random(1), backbone=backbone, bridge=bridge)
    row = Row(model, Request(PROMPT, propagation, Always(), run_max=8))
    while row.stats.left < exits:
        row.visit()
    return row


def deep_states(row: Row) -> list[AttentionState]:
    return [row.states[block] for block in row.model.blocks[row.model.exits[0].after :]]


def test_skip_leaves_no_entry_and_uses_the_position() -> None:
    row = after_one_exit("skip")
    assert all(state.entries[-1] == Entry(4, True) for state in deep_states(row))
    assert row.frontier == [6] * len(row.frontier)


def test_project_applies_own_weights_at_the_true_position() -> None:
    row, seen = after_one_exit("project"), after_one_exit("defer")
    h = seen.ring[1][-1][1]
    for block in row.model.blocks[row.model.exits[0].after :]:
        state, mixer = row.states[block], block.mixer
        key = mixer.k_proj(block.norm(h)).view(-1, mixer.head_dim)
        assert state.entries[-1] == Entry(5, True)
        assert torch.equal(state.keys[5], rotate(key, 5, mixer.theta))


def test_copy_block_takes_the_exit_blocks_entry() -> None:
    row = after_one_exit("copy_block")
    source = row.states[row.model.blocks[row.model.exits[0].after - 1]]
    for state in deep_states(row):
        assert state.entries[-1] == Entry(5, False)
        assert torch.equal(state.keys[5], source.keys[5]) and torch.equal(state.values[5], source.values[5])


def test_copy_token_turns_the_last_own_key_once() -> None:
    """Three tokens leave: each copies the prompt's last entry, not a copy of a copy."""
    row = after_one_exit("copy_token", exits=3)
    for block in row.model.blocks[row.model.exits[0].after :]:
        state = row.states[block]
        assert state.entries[-1] == Entry(7, False)
        assert torch.equal(state.keys[7], rotate(state.keys[4], 3, block.mixer.theta))
        assert torch.equal(state.values[7], state.values[4])


def test_copies_are_invisible_to_mamba() -> None:
    skip = after_one_exit("skip", backbone="mamba2")
    for propagation in ("copy_block", "copy_token"):
        row = after_one_exit(propagation, backbone="mamba2")
        for ours, theirs in zip(row.model.blocks, skip.model.blocks, strict=True):
            assert same(ours.mixer.export(row.states[ours]), theirs.mixer.export(skip.states[theirs]))


def test_last_block_keeps_the_bridges_own_entry() -> None:
    """One entry per token that left, from its exit's hidden state; under skip it is the token's state."""
    row = after_one_exit("skip", bridge="last_block")
    *deeper, last = deep_states(row)
    assert last.entries[-1] == Entry(5, True) and last.final == 6 and row.tail == 0
    assert all(state.entries[-1].position == 4 for state in deeper)


def test_last_block_under_defer_is_a_tail() -> None:
    row = after_one_exit("defer", bridge="last_block", exits=2)
    last = deep_states(row)[-1]
    assert row.tail == 2 and last.final == 5 and [entry.position for entry in last.entries[5:]] == [5, 6]
