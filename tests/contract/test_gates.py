"""Every gate in its folder, as the engine relies on it."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from offramp import registry
from offramp.exits.base import ExitConfig, Gate

WIDTH, LENGTH = 24, 14
GATES = registry.names("offramp.exits.gates")


def config(bottleneck: int | None = 16, norm: bool = True) -> ExitConfig:
    return ExitConfig("linear", "none", (1,), WIDTH, 1e-5, bottleneck, norm)


def gate_named(name: str, options: ExitConfig) -> Gate:
    torch.manual_seed(0)
    return registry.find("offramp.exits.gates", name, Gate)(options).double().eval()


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize(
    "options", [config(), config(None), config(16, norm=False)], ids=["r16", "full", "bare"]
)
@torch.inference_mode()
def test_whole_sequence_equals_prompt_cell_and_chunks(name: str, options: ExitConfig) -> None:
    gate, hidden = gate_named(name, options), torch.randn(1, LENGTH, WIDTH, dtype=torch.float64)
    whole = gate(hidden)
    assert whole.shape == (1, LENGTH)
    state = gate.mixer.init_state(2, 32)
    gate.prefill(hidden[:, :5], state, [1])
    pieces = []
    for start, stop in ((5, 6), (6, 10), (10, LENGTH)):
        pieces.append(gate(hidden[0, start:stop], state, [1], [stop - start]))
        gate.mixer.commit(state, [1], [stop - start])
    torch.testing.assert_close(torch.cat(pieces), whole[0, 5:], atol=1e-9, rtol=1e-7)
    assert state.position == [0, LENGTH]


@pytest.mark.parametrize("name", GATES)
@torch.inference_mode()
def test_rows_that_share_a_call_are_as_alone(name: str) -> None:
    """Bit for bit, 16 tokens a call as in the exact tier: at other places, beside another row, before padding."""
    gate = gate_named(name, config()).float()
    mine, others = torch.randn(9, WIDTH), torch.randn(7, WIDTH)
    padding = torch.full((7, WIDTH), math.nan)
    alone, shared = gate.mixer.init_state(1, 32), gate.mixer.init_state(3, 32)
    single = gate(torch.cat((mine, padding)), alone, [0], [9])
    company = gate(torch.cat((others, mine)), shared, [0, 2], [7, 9])
    assert torch.equal(company[7:], single[:9])


@pytest.mark.parametrize("name", GATES)
@torch.inference_mode()
def test_advance_leaves_the_state_that_forward_leaves(name: str) -> None:
    gate, hidden = gate_named(name, config()), torch.randn(4, WIDTH, dtype=torch.float64)
    heard, advanced = gate.mixer.init_state(1, 32), gate.mixer.init_state(1, 32)
    gate(hidden, heard, [0], [4])
    gate.advance(hidden, advanced, [0], [4])
    for state in (heard, advanced):
        gate.mixer.commit(state, [0], [4])
    mine, other = gate.mixer.snapshot(heard, 0), gate.mixer.snapshot(advanced, 0)
    for key in mine:
        torch.testing.assert_close(mine[key], other[key], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", GATES)
def test_every_parameter_learns(name: str) -> None:
    """A parameter without a gradient is one that was forgotten in the forward pass."""
    gate = gate_named(name, config()).train()
    gate(torch.randn(2, LENGTH, WIDTH, dtype=torch.float64)).square().sum().backward()
    assert [key for key, value in gate.named_parameters() if value.grad is None or not value.grad.any()] == []


@pytest.mark.parametrize("name", GATES)
@torch.inference_mode()
def test_runs_in_bfloat16_on_a_float32_stream(name: str) -> None:
    """As under `--dtype bf16` with config.json's residual_in_fp32."""
    gate = copy.deepcopy(gate_named(name, config())).to(torch.bfloat16)
    state = gate.mixer.init_state(1, 32)
    assert torch.isfinite(gate(torch.randn(16, WIDTH), state, [0], [3])[:3]).all()
