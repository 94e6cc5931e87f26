"""Every policy in its folder: pure, monotone in its threshold, one answer a row."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from offramp import registry
from offramp.policies.base import ExitPolicy, Signal

POLICIES = registry.names("offramp.policies")


def signal(gates: list[float]) -> Signal:
    rows = len(gates)
    generator = torch.Generator().manual_seed(rows)
    hidden = torch.randn(2, rows, 8, generator=generator)
    logits = torch.randn(rows, 11, generator=generator) * 3
    return Signal(1, torch.tensor(gates), hidden[0], hidden[1], [4] * rows, [20] * rows, logits)


def ask(name: str, threshold: float, of: Signal) -> list[bool]:
    policy = registry.find("offramp.policies", name, ExitPolicy)((0.0, threshold, 0.0))
    rows = len(of.gate_R)
    leave_R, memory = policy(of, [policy.init_state()] * rows)
    assert leave_R.dtype == torch.bool and leave_R.shape == (rows,) and len(memory) == rows
    return leave_R.tolist()


gates = st.lists(st.floats(0, 1), min_size=1, max_size=5)


@pytest.mark.parametrize("name", POLICIES)
@given(values=gates, low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_higher_threshold_never_lets_more_leave(
    name: str, values: list[float], low: float, high: float
) -> None:
    low, high = sorted((low, high))
    of = signal(values)
    assert all(lax or not strict for lax, strict in zip(ask(name, low, of), ask(name, high, of), strict=True))


@pytest.mark.parametrize("name", POLICIES)
@given(values=gates, threshold=st.floats(0, 1))
def test_a_row_is_answered_as_alone(name: str, values: list[float], threshold: float) -> None:
    of = signal(values)
    alone = [
        ask(
            name,
            threshold,
            replace(
                of,
                gate_R=of.gate_R[i : i + 1],
                entering_RD=of.entering_RD[i : i + 1],
                leaving_RD=of.leaving_RD[i : i + 1],
                index=of.index[i : i + 1],
                max_tokens=of.max_tokens[i : i + 1],
                logits_RV=None if of.logits_RV is None else of.logits_RV[i : i + 1],
            ),
        )[0]
        for i in range(len(values))
    ]
    assert ask(name, threshold, of) == alone == ask(name, threshold, of)


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "always"])
def test_threshold_one_never_leaves(name: str) -> None:
    assert not any(ask(name, 1.0, signal([0.2, 1.0])))
