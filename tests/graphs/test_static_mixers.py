"""Static steps against the mixers' own way, on random traffic: chunks, rejected drafts, cells, skips, NaN."""

from __future__ import annotations

import pytest
import torch
from part_pairs import SLOTS, WIDTH, Pair
from recorded_steps import recorded
from samples import SAMPLES, make
from torch import Tensor

from offramp.graphs import mamba, mamba2

MIXERS = [name for name in SAMPLES if name != "identity"]


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("seed", range(2))
@torch.inference_mode()
def test_static_steps_do_what_mixers_do(name: str, seed: int) -> None:
    graphs, steps = recorded()
    pair = Pair(make(name, WIDTH, torch.float64), seed, graphs)
    for slot in range(SLOTS):
        pair.begin(slot)
    for turn in range(60):
        pair.turn(wild=turn % 9 == 5)
        if turn % 7 == 3:
            pair.skip()
        if turn % 20 == 19:
            pair.begin(turn % SLOTS)
    pair.assert_same_memory()
    assert sum(step.replays for step in steps) > 10, "calls replay what was recorded"


@torch.inference_mode()
def test_a_window_s_entries_are_moved() -> None:
    """Nothing that a rejected draft left behind them is ever read."""
    pair = Pair(make("attention-window", WIDTH, torch.float64), 0, recorded()[0])
    for part in (pair.ours, pair.theirs):
        part.reset(0)
    for turn in range(240):
        x_ND = pair.tokens(5)
        x_ND[3:] = torch.nan
        keep = [3 if turn % 2 else 2]
        pair.alike(lambda part, x: part(x, [0], [5]).clone(), x_ND)
        pair.both(lambda part, _, keep=keep: part.commit([0], keep))
    assert pair.theirs.state.oldest[0] > 0


@pytest.mark.parametrize("name", ["attention", "attention-window", "mamba", "mamba2"])
@torch.inference_mode()
def test_nothing_of_a_slot_s_former_owner_is_seen(name: str) -> None:
    pair = Pair(make(name, WIDTH, torch.float64), 0, recorded()[0])
    pair.both(lambda part, x: part.prefill(x, [1]), pair.tokens(90)[None] * torch.nan)
    pair.both(lambda part, _: part.reset(1))
    for _ in range(3):
        pair.alike(lambda part, x: part(x, [1], [2]).clone(), pair.tokens(2))
    ours, _ = pair.both(lambda part, x: part(x, [1], [1]), pair.tokens(1))
    assert isinstance(ours, Tensor) and bool(ours.isfinite().all())


@torch.inference_mode()
def test_values_that_overflow_are_not_hidden() -> None:
    """They are stored as zeros, so that nobody else is harmed; who sees them is no number all the same."""
    mixer = make("attention", WIDTH, torch.float64)
    pair = Pair(mixer, 0, recorded()[0])
    for part in (pair.ours, pair.theirs):
        part.module.mixer.v_proj.weight.fill_(1e308)
    x_ND = torch.cat((torch.zeros(1, WIDTH), torch.full((1, WIDTH), 100.0))).double()
    for output in pair.both(lambda part, x: part(x, [0], [2]).clone(), x_ND):
        assert isinstance(output, Tensor)
        assert output.isfinite().all(-1).tolist() == [True, False]


def fake_update(
    state: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, dt_bias: Tensor | None = None
) -> Tensor:
    """As mamba_ssm's is documented: state [R, (H,) P, N], x and dt [R, (H,) P], A [(H,) P, N], B and C [R, (G,) N]."""
    assert dt.shape == x.shape and A.shape == state.shape[1:]
    if state.dim() == 4:
        assert dt_bias is not None and dt_bias.shape == x.shape[1:]
        assert A.stride()[1:] == (0, 0) and dt.stride(-1) == dt_bias.stride(-1) == 0
        B, C = (part.repeat_interleave(state.shape[1] // part.shape[1], 1) for part in (B, C))
    B, C = (part.unsqueeze(-2) for part in (B, C))
    state.copy_(state * (dt[..., None] * A).exp() + (dt * x)[..., None] * B)
    return (state * C).sum(-1)


@pytest.mark.parametrize("name", ["mamba", "mamba-norms", "mamba2", "mamba2-eight-groups"])
@torch.inference_mode()
def test_a_fused_update_does_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (mamba, mamba2):
        monkeypatch.setattr(module, "fused_update", lambda device: fake_update)
    pair = Pair(make(name, WIDTH, torch.float64), 1, recorded()[0])
    for turn in range(20):
        pair.turn(wild=turn == 9)
    pair.assert_same_memory()
