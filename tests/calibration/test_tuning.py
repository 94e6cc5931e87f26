"""Temperatures, reliability and the path that they make."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offramp.calibration.path import even_path, gate_path
from offramp.calibration.reliability import reliability
from offramp.calibration.temperature import fit_temperature, nll, sigmoid
from offramp.errors import UsageError


def drawn(heat: float, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `heat` times too large, and what came true."""
    rng = np.random.default_rng(0)
    true_N = rng.normal(0, 2, count)
    return true_N * heat, (rng.random(count) < sigmoid(true_N)).astype(float)


@pytest.mark.parametrize("heat", [0.4, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(heat: float) -> None:
    logits_N, right_N = drawn(heat)
    found = fit_temperature(logits_N, right_N)
    assert found == pytest.approx(heat, rel=0.05)
    before, after = (reliability(sigmoid(logits_N / t), right_N).error for t in (1.0, found))
    assert after < 0.02 and (heat == 1.0 or before > 2 * after)


def test_no_other_temperature_foresees_better() -> None:
    logits_N, right_N = drawn(2.0)
    best = nll(logits_N / fit_temperature(logits_N, right_N), right_N)
    assert all(nll(logits_N / heat, right_N) >= best - 1e-9 for heat in np.linspace(0.1, 10, 200))


def test_what_teaches_nothing_leaves_the_gate_as_it_is() -> None:
    assert fit_temperature(np.array([1.0, 2.0]), np.array([1.0, 1.0])) == 1.0
    assert fit_temperature(np.full(3, -np.inf), np.array([0.0, 1.0, 1.0])) == 1.0


def test_bins_count_everything_once() -> None:
    predicted_N = np.array([0.0, 0.05, 0.1, 0.95, 1.0])
    found = reliability(predicted_N, np.array([0.0, 0.0, 1.0, 1.0, 1.0]))
    assert [item.count for item in found.bins] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert found.error == pytest.approx((2 * 0.025 + 0.9 + 2 * 0.025) / 5)


@given(st.integers(1, 4), st.integers(1, 30), st.integers(0, 5))
def test_a_path_begins_with_never_and_falls(exits: int, steps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits_EN = rng.normal(0, 3, (exits, 200))
    for path in (gate_path(logits_EN, tuple(rng.uniform(0.3, 3, exits)), steps), even_path(exits, steps)):
        assert path[0] == (1.0,) * exits and path[-1] == (0.0,) * exits
        for above, below in zip(path, path[1:], strict=False):
            assert len(below) == exits and all(a >= b for a, b in zip(above, below, strict=True))
            assert above != below


def test_every_step_lets_as_many_more_leave() -> None:
    """Of the tune positions; and at each step all exits ask for the same calibrated confidence."""
    rng = np.random.default_rng(0)
    logits_EN, heats = rng.normal(0, 3, (3, 10_000)), (0.5, 1.0, 2.0)
    path = gate_path(logits_EN, heats, 10)
    for k, thresholds in enumerate(path):
        leaves_N = (sigmoid(logits_EN) > np.array(thresholds)[:, None]).any(0)
        assert leaves_N.mean() == pytest.approx(k / 10, abs=0.001)
    logits_E = [np.log(t / (1 - t)) for t in path[3]]
    assert np.ptp(np.array(logits_E) / heats) < 1e-9


@pytest.mark.parametrize("steps", [0, -1, 257])
def test_impossible_numbers_of_steps_are_refused(steps: int) -> None:
    with pytest.raises(UsageError, match="steps"):
        even_path(2, steps)
