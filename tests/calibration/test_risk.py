"""The test behind a guarantee: against brute force, and by what it must never do."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offramp.calibration.risk import (
    divergence,
    documents_needed,
    exact_binomial,
    fixed_sequence,
    hoeffding_bentkus,
    p_value,
)
from offramp.errors import UsageError

RISK, CONFIDENCE = 0.05, 0.95
DRAWS = 1000
MOST_VIOLATIONS = 73
"""Of 1,000 draws at 5 %: more happen with a probability below 0.1 %."""
RISKS = st.floats(0.005, 0.5)
Rule = Callable[[np.ndarray, float, bool], int]
"""Losses of steps x documents, a risk, whether losses are 0 or 1 -> how many steps are taken."""


def binomial_by_hand(k: int, n: int, p: float) -> float:
    return math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(min(k, n) + 1))


@given(st.integers(1, 60), st.data(), RISKS)
def test_the_binomial_is_the_sum_of_its_terms(n: int, data: st.DataObject, risk: float) -> None:
    k = data.draw(st.integers(0, n))
    assert exact_binomial(k, n, risk) == pytest.approx(binomial_by_hand(k, n, risk), rel=1e-9)


@given(st.integers(1, 200), st.floats(0, 1), RISKS)
def test_hoeffding_bentkus_is_the_smaller_of_two_bounds(n: int, mean: float, risk: float) -> None:
    total = mean * n
    found = hoeffding_bentkus(total, n, risk)
    kl = n * (math.log(1 / (1 - risk)) if total == 0 else divergence(total / n, risk))
    bounds = (math.exp(-kl), math.e * binomial_by_hand(math.ceil(total), n, risk), 1.0)
    assert found == pytest.approx(min(bounds) if total / n < risk else 1.0, rel=1e-9)


@given(st.integers(1, 300), st.floats(0, 0.9), RISKS)
def test_p_rises_with_the_loss_and_falls_with_the_risk(n: int, mean: float, risk: float) -> None:
    p = hoeffding_bentkus(mean * n, n, risk)
    assert p <= hoeffding_bentkus((mean + 0.1) * n, n, risk) + 1e-12
    assert p >= hoeffding_bentkus(mean * n, n, risk + 0.1) - 1e-12


def test_p_falls_with_the_number_of_documents() -> None:
    p = [hoeffding_bentkus(0.02 * n, n, RISK) for n in range(50, 2000, 50)]
    assert p == sorted(p, reverse=True) and p[-1] < 1e-3 < p[0]


@pytest.mark.parametrize("binary", [False, True])
def test_p_values_are_super_uniform_where_the_risk_is_reached(binary: bool) -> None:
    """P(p <= u) <= u whatever the distribution with this mean; a test that says "fine" too often fails here."""
    rng = np.random.default_rng(0)
    n, draws = 120, 4000
    tables = {"0/1": rng.random((draws, n)) < RISK}
    if not binary:
        tables["beta"] = rng.beta(0.3, 0.3 * (1 / RISK - 1), (draws, n))
        tables["steps"] = (rng.random((draws, n)) < 2 * RISK) * 0.5
    for name, table in tables.items():
        p = np.array([p_value(losses.astype(float).tolist(), RISK, binary) for losses in table])
        for level in (0.01, 0.05, 0.1, 0.3, 0.5):
            slack = 4 * math.sqrt(level * (1 - level) / draws)
            assert (p <= level).mean() <= level + slack, name


def test_the_first_failure_ends_it() -> None:
    good, bad = [0.0] * 200, [1.0] * 200
    verdict = fixed_sequence([good, good, bad, good], RISK, CONFIDENCE)
    assert verdict.passed == 2 and [step.passed for step in verdict.tested] == [True, True, False]
    assert verdict.needed is None


def test_no_step_is_asked_for_behind_the_first_failure() -> None:
    asked = []

    def steps() -> object:
        for i in range(5):
            asked.append(i)
            yield [1.0] * 9

    assert fixed_sequence(steps(), RISK, CONFIDENCE).passed == 0  # type: ignore[arg-type]
    assert asked == [0]


@pytest.mark.parametrize(("risk", "binary"), [(0.05, True), (0.02, False), (0.1, True)])
def test_too_few_documents_are_told_how_many_would_do(risk: float, binary: bool) -> None:
    verdict = fixed_sequence([[0.0] * 20], risk, CONFIDENCE, binary)
    assert verdict.passed == 0
    needed = verdict.needed
    assert needed == math.ceil(math.log(0.05) / math.log(1 - risk))
    assert fixed_sequence([[0.0] * needed], risk, CONFIDENCE, binary).passed == 1
    assert fixed_sequence([[0.0] * (needed - 1)], risk, CONFIDENCE, binary).passed == 0


def test_no_number_of_documents_helps_a_loss_above_the_risk() -> None:
    assert documents_needed(0.05, 0.05, CONFIDENCE) is None
    assert documents_needed(0.9, 0.05, CONFIDENCE, binary=True) is None
    some = documents_needed(0.03, 0.05, CONFIDENCE)
    assert some is not None and hoeffding_bentkus(0.03 * some, some, 0.05) <= 0.05


@pytest.mark.parametrize("losses", [[], [1.5], [-0.1], [math.nan], [0.0, math.inf]])
def test_what_is_no_loss_is_refused(losses: list[float]) -> None:
    with pytest.raises(UsageError, match="loss"):
        p_value(losses, RISK)


def test_a_fraction_is_no_binary_loss() -> None:
    with pytest.raises(UsageError, match="0 or 1"):
        p_value([0.5], RISK, binary=True)


@pytest.mark.parametrize("level", [0.0, 1.0, -1, math.nan])
def test_levels_outside_their_range_are_refused(level: float) -> None:
    for levels in ((level, 0.95), (0.05, level)):
        with pytest.raises(UsageError, match="between 0 and 1"):
            fixed_sequence([[0.0]], *levels)


def recorded() -> np.ndarray:
    """steps x documents: agreement losses of tiny-mamba2 under `defer`, as this wrote them:

    offramp calibrate tiny-mamba2 --data .corpus/calibration.jsonl --max-documents 300 --risk 0.05 --max-tokens 16
    --prompt-tokens 32 --steps 12 --losses losses.json
    """
    raw = json.loads(Path(__file__).with_name("losses.json").read_text())
    return np.array(raw["losses"])


def violations(table_SD: np.ndarray, rule: Rule, risk: float, binary: bool) -> int:
    """Of 1,000 calibrations on documents drawn with replacement, those whose choice has a true loss above the risk."""
    truth_S, rng = table_SD.mean(1), np.random.default_rng(0)
    bad = 0
    for _ in range(DRAWS):
        passed = rule(table_SD[:, rng.integers(0, table_SD.shape[1], 100)], risk, binary)
        bad += bool(passed and truth_S[passed - 1] > risk)
    return bad


def guaranteed(drawn_SD: np.ndarray, risk: float, binary: bool) -> int:
    return fixed_sequence(drawn_SD.tolist(), risk, CONFIDENCE, binary).passed


def naive(drawn_SD: np.ndarray, risk: float, binary: bool) -> int:
    """The loosest threshold whose empirical loss is within the risk."""
    fine = np.flatnonzero(drawn_SD.mean(1) <= risk)
    return int(fine[-1]) + 1 if len(fine) else 0


@pytest.mark.parametrize("risk", [0.02, 0.03, 0.06, 0.08])
def test_recorded_losses_violate_the_guarantee_rarely_and_the_naive_threshold_often(risk: float) -> None:
    """At risks not far below what some step truly loses; the mean over the whole table is the truth."""
    table_SD = recorded()
    assert table_SD.mean(1)[0] < risk < table_SD.mean(1)[-1]
    assert violations(table_SD, guaranteed, risk, binary=False) <= MOST_VIOLATIONS
    assert violations(table_SD, naive, risk, binary=False) > MOST_VIOLATIONS


@pytest.mark.parametrize("risk", [0.1, 0.25, 0.4])
def test_so_do_losses_of_0_and_1(risk: float) -> None:
    """Whether a document had any token that the full model would not have chosen: the exact binomial."""
    table_SD = (recorded() > 0).astype(float)
    assert violations(table_SD, guaranteed, risk, binary=True) <= MOST_VIOLATIONS
    assert violations(table_SD, naive, risk, binary=True) > MOST_VIOLATIONS


def test_the_guarantee_is_no_refusal() -> None:
    """A rule that lets nothing leave keeps every promise; ours lets something leave nearly always here."""
    table_SD, rng = recorded(), np.random.default_rng(0)
    draws = [table_SD[:, rng.integers(0, table_SD.shape[1], 300)] for _ in range(100)]
    assert sum(guaranteed(drawn_SD, RISK, False) > 0 for drawn_SD in draws) > 95


def test_tokens_are_no_documents() -> None:
    """Tokens of one document err together: tested as if they were independent, the guarantee breaks."""
    rng = np.random.default_rng(0)
    tokens, documents, by_token, by_document = 50, 60, 0, 0
    for _ in range(DRAWS):
        bad_D = (
            rng.random(documents) < 2 * RISK
        )  # half of a bad document's tokens are wrong; the mean is the risk
        losses_D = np.where(bad_D, rng.binomial(tokens, 0.52, documents), 0) / tokens
        by_document += p_value(losses_D.tolist(), RISK) <= 0.05
        by_token += exact_binomial(round(losses_D.sum() * tokens), documents * tokens, RISK) <= 0.05
    assert by_document <= MOST_VIOLATIONS < by_token
