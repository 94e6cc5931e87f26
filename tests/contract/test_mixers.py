"""Every mixer keeps the contract of `mixers/base.py`: a new file is tested the moment it exists."""

from __future__ import annotations

import pytest
import torch

from offramp import registry
from offramp.mixers.base import Mixer, State

WIDTH, MAX_LEN = 64, 48
FOLDER = "offramp.mixers"


def make(name: str) -> Mixer:
    """At its defaults, as a gate would make it, float64."""
    kind = registry.find(FOLDER, name, Mixer)  # type: ignore[type-abstract]
    torch.manual_seed(0)
    mixer = kind() if name == "identity" else kind(WIDTH)  # type: ignore[call-arg]
    return mixer.double()


def hidden(tokens: int) -> torch.Tensor:
    return torch.randn(tokens, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def push(mixer: Mixer, state: State, x_TD: torch.Tensor) -> torch.Tensor:
    return mixer(x_TD, state, [0], [len(x_TD)])


@pytest.mark.parametrize("name", registry.names(FOLDER))
@torch.inference_mode()
def test_counts(name: str) -> None:
    mixer, x = make(name), hidden(20)
    state = mixer.init_state(2, MAX_LEN)
    assert mixer.prefill(x[None, :7], state, [1]).shape == (1, 7, WIDTH)
    mixer(x[:5], state, [1], [3])
    mixer.advance(x[:5], state, [1], [2])
    assert (state.position, state.provisional, state.next_position(1)) == ([0, 7], [0, 5], 12)
    mixer.rollback(state, [1], keep=4)
    mixer.commit(state, [1], [3])
    assert (state.position, state.provisional) == ([0, 10], [0, 0])
    state.skip([1], [2])
    assert int(mixer.snapshot(state, 1)["position"]) == 12
    mixer.reset(state, 1)
    assert (state.position, state.provisional) == ([0, 0], [0, 0])


@pytest.mark.parametrize("name", registry.names(FOLDER))
@torch.inference_mode()
def test_whole_cells_chunks_rollback_and_restore_agree(name: str) -> None:
    mixer, x = make(name), hidden(30)
    state, whole = mixer.init_state(1, MAX_LEN), mixer(x[None])[0]
    outputs = [mixer.prefill(x[None, :9], state, [0])[0]]
    saved = mixer.snapshot(state, 0)
    push(mixer, state, x[:6])
    mixer.rollback(state, [0])
    outputs.append(push(mixer, state, x[9:20]))
    mixer.commit(state, [0], [11])
    outputs.append(push(mixer, state, x[20:21]))
    outputs.append(push(mixer, state, x[21:]))
    torch.testing.assert_close(torch.cat(outputs), whole, rtol=1e-10, atol=1e-10)
    mixer.restore(state, 0, saved)
    torch.testing.assert_close(push(mixer, state, x[9:20]), whole[9:20], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", registry.names(FOLDER))
@torch.inference_mode()
def test_a_cell_gives_as_many_of_its_last_outputs_as_are_wanted(name: str) -> None:
    mixer, x = make(name), hidden(9)[None]
    whole = mixer.prefill(x, mixer.init_state(1, MAX_LEN), [0])
    for last in (0, 1, 9):
        some = mixer.prefill_last(x, mixer.init_state(1, MAX_LEN), [0], last)
        torch.testing.assert_close(some, whole[:, 9 - last :], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", registry.names(FOLDER))
def test_gradients_reach_every_parameter(name: str) -> None:
    mixer, x = make(name), hidden(12).requires_grad_()
    mixer(x[None]).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in (x, *mixer.parameters()))
