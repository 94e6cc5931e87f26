"""Every policy in its folder: pure, monotone in its threshold, one answer a row. Then what each one measures."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from offramp import registry
from offramp.errors import UsageError
from offramp.policies.base import ExitPolicy, ScorePolicy, Signal
from offramp.policies.budget import RATE, Budget
from offramp.policies.calm import Calm, bar
from offramp.policies.entropy import Entropy
from offramp.policies.margin import Margin
from offramp.policies.patience import Patience
from offramp.policies.saturation import Saturation

FOLDER = "offramp.policies"
POLICIES = registry.names(FOLDER)
EXITS, BLOCKS = 3, 8


def signal(gates: list[float], exit: int = 1, index: int = 4, seed: int = 0) -> Signal:
    """Gates as given, the rest drawn from the seed."""
    rows = len(gates)
    generator = torch.Generator().manual_seed(rows + seed)
    hidden = torch.randn(2, rows, 8, generator=generator)
    logits = torch.randn(rows, 11, generator=generator) * 3
    return Signal(
        exit=exit,
        depth=2 * (exit + 1),
        blocks=BLOCKS,
        gate_R=torch.tensor(gates),
        entering_RD=hidden[0],
        leaving_RD=hidden[0] + hidden[1],
        index=[index] * rows,
        max_tokens=[20] * rows,
        may_leave=[True] * rows,
        logits_RV=logits,
    )


def rows_of(of: Signal, numbers: range) -> Signal:
    """The signal of these rows, in memory of their own."""
    chosen: dict[str, Any] = {
        name: value[numbers.start : numbers.stop].clone()
        if isinstance(value, Tensor)
        else value[numbers.start : numbers.stop]
        for name, value in vars(of).items()
        if isinstance(value, list | Tensor)
    }
    return replace(of, **chosen)


def row(of: Signal, i: int) -> Signal:
    """The signal of one row alone."""
    return rows_of(of, range(i, i + 1))


def made(name: str, thresholds: tuple[float, ...]) -> ExitPolicy:
    return registry.find(FOLDER, name, ExitPolicy)(thresholds)


def ask(name: str, threshold: float, of: Signal) -> list[bool]:
    policy = made(name, (threshold,) * EXITS)
    rows = len(of.gate_R)
    leave_R, memory = policy(of, [policy.init_state()] * rows)
    assert leave_R.dtype == torch.bool and leave_R.shape == (rows,) and len(memory) == rows
    return leave_R.tolist()


gates = st.lists(st.floats(0, 1), min_size=1, max_size=5)


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=30)
@given(values=gates, low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_higher_threshold_never_lets_more_leave(
    name: str, values: list[float], low: float, high: float
) -> None:
    low, high = sorted((low, high))
    of = signal(values)
    assert all(lax or not strict for lax, strict in zip(ask(name, low, of), ask(name, high, of), strict=True))


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=30)
@given(values=gates, threshold=st.floats(0, 1))
def test_a_row_is_answered_as_alone(name: str, values: list[float], threshold: float) -> None:
    of = signal(values)
    alone = [ask(name, threshold, row(of, i))[0] for i in range(len(values))]
    assert ask(name, threshold, of) == alone == ask(name, threshold, of)


def around_its_score(name: str, of: Signal) -> tuple[float, float]:
    """The two nearest thresholds between which a row alone turns from leaving to staying; 0 and 1 if it never does."""
    low, high = 0.0, 1.0
    if ask(name, low, of) == ask(name, high, of):
        return low, high
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if ask(name, middle, of) == [True] else (low, middle)
    return low, high


def crowd(rows: int, vocab: int) -> Signal:
    """Of many rows, with numbers of no round sizes."""
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(2, rows, 131, generator=generator)
    return replace(
        signal(torch.rand(rows, generator=generator).tolist()),
        entering_RD=hidden[0],
        leaving_RD=hidden[0] + hidden[1],
        logits_RV=torch.randn(rows, vocab, generator=generator) * 4,
    )


@pytest.mark.parametrize("name", POLICIES)
def test_a_row_is_answered_as_alone_to_the_last_bit(name: str) -> None:
    """In company of every size, at the thresholds next to its own score."""
    most = 33
    everyone = crowd(most, vocab=1009)
    rows = [row(everyone, i) for i in range(most)]
    around = [around_its_score(name, alone) for alone in rows]
    for count in range(1, most + 1):
        company = rows_of(everyone, range(most - count, most))
        for i in (0, count // 2, count - 1):
            alone, (low, high) = rows[most - count + i], around[most - count + i]
            for threshold in (low, high):
                assert ask(name, threshold, company)[i] == ask(name, threshold, alone)[0], (count, i)


@pytest.mark.parametrize(
    "name", [name for name in POLICIES if issubclass(registry.find(FOLDER, name, ExitPolicy), ScorePolicy)]
)
def test_a_score_has_the_bits_that_it_has_alone(name: str) -> None:
    """With a large vocabulary kernels share their work between threads, where there is work for several."""
    torch.set_num_threads(2)
    everyone, policy = crowd(24, vocab=33000), made(name, (0.5,) * EXITS)
    assert isinstance(policy, ScorePolicy)
    alone = torch.cat([policy.score(row(everyone, i)) for i in range(24)])
    for count in (2, 3, 24):
        assert torch.equal(policy.score(rows_of(everyone, range(count))), alone[:count])


def walk(policy: ExitPolicy, tokens: int, seed: int = 0, seldom: bool = False) -> list[int]:
    """The depth of each token of a row whose gates are drawn. seldom: run_max lets every other token leave."""
    rng, memory, depths = random.Random(seed), policy.init_state(), []
    for index in range(1, tokens + 1):
        depth = BLOCKS
        for exit in range(EXITS):
            may = not seldom or index % 2 == 0
            of = replace(signal([rng.betavariate(4, 1)], exit, index, seed=index), may_leave=[may])
            leave_R, [memory] = policy(of, [memory])
            if bool(leave_R[0]) and may:
                depth = of.depth
                break
        depths.append(depth)
    return depths


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "always"])
def test_threshold_one_never_leaves(name: str) -> None:
    """Also not with memory, and not where the score is exactly 1."""
    assert set(walk(made(name, (1.0,) * EXITS), 60)) == {BLOCKS}
    certain = replace(signal([1.0]), logits_RV=torch.tensor([[0.0] + [-math.inf] * 10]))
    assert ask(name, 1.0, replace(certain, leaving_RD=3 * certain.entering_RD)) == [False]


@pytest.mark.parametrize("name", POLICIES)
def test_each_exit_has_its_own_threshold(name: str) -> None:
    """A rule that keeps one number for all exits says so instead of reading one of them."""
    try:
        own = made(name, (1.0, 0.0, 1.0))
    except UsageError as error:
        assert "give one threshold" in str(error)
        return
    of = signal([0.2, 1.0])
    assert own(of, [own.init_state()] * 2)[0].tolist() == ask(name, 0.0, of)


@pytest.mark.parametrize("name", POLICIES)
def test_its_default_is_a_threshold_and_its_docstring_says_what_it_bounds(name: str) -> None:
    policy = registry.find(FOLDER, name, ExitPolicy)
    [threshold] = policy.default_thresholds(())
    assert 0 <= threshold < 1
    assert policy.__doc__ and policy.__doc__.partition("\n")[0].endswith(".")


def test_margin_is_the_lead() -> None:
    logits = torch.tensor([[0.5, 0.2, 0.3], [0.4, 0.2, 0.4]]).log()
    torch.testing.assert_close(
        Margin([0]).score(replace(signal([0, 0]), logits_RV=logits)), torch.tensor([0.2, 0.0])
    )


def test_entropy_is_one_for_a_certain_token_and_zero_for_none() -> None:
    logits = torch.tensor(
        [[7.0, -math.inf, -math.inf, -math.inf], [1, 1, 1, 1], [1, 1, -math.inf, -math.inf]]
    )
    score = Entropy([0]).score(replace(signal([0] * 3), logits_RV=logits))
    torch.testing.assert_close(score, torch.tensor([1.0, 0.0, 0.5]))


def test_saturation_is_the_cosine() -> None:
    entering = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [3.0, 4.0]])
    leaving = torch.tensor([[-2.0, 0.0], [5.0, 5.0], [1.0, 0.0], [6.0, 8.0]])
    of = replace(signal([0] * 4), entering_RD=entering, leaving_RD=leaving)
    torch.testing.assert_close(Saturation([0]).score(of), torch.tensor([-1.0, 0.5**0.5, 0.0, 1.0]))


def test_calm_s_bar_falls_along_the_reply() -> None:
    """Equation 5 at its two ends; the probability 0.8 passes only late."""
    assert bar(0.8, 0, 100) == pytest.approx(0.82) and bar(0.8, 100, 100) == pytest.approx(0.72183, abs=1e-5)
    assert bar(1.0, 50, 100) == 1 and bar(0.0, 0, 100) == pytest.approx(0.1)
    logits = torch.tensor([[0.8, 0.2]]).log()
    policy = Calm((0.8,))
    late = [
        bool(policy(replace(signal([0], 0, index), logits_RV=logits), [()])[0]) for index in (0, 1, 2, 19)
    ]
    assert late == [False, False, True, True]


def test_patience_counts_exits_that_agree_in_a_row() -> None:
    """Four exits; more than half of them, so three in a row. A new token starts again."""
    policy, memory, left = Patience((0.5,) * 4), Patience([]).init_state(), []
    for index, tops in ((1, [3, 3, 3]), (2, [3, 5, 5, 5]), (3, [5, 5, 2, 2]), (4, [2])):
        for exit, top in enumerate(tops):
            logits = torch.nn.functional.one_hot(torch.tensor([top]), 9).float()
            leave_R, [memory] = policy(replace(signal([0], exit, index), logits_RV=logits), [memory])
            left.append(bool(leave_R[0]))
    assert left == [False, False, True] + [False] * 3 + [True] + [False] * 5


@pytest.mark.parametrize("seldom", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_budget_keeps_its_mean_depth(share: float, seldom: bool) -> None:
    """Within the bar's longest way over RATE times the tokens, whatever the gates say, where it can be kept at all."""
    tokens = 150
    mean = sum(walk(Budget((share,) * EXITS), tokens, seldom=seldom)) / tokens / BLOCKS
    least = (2 / BLOCKS + 1) / 2 if seldom else 2 / BLOCKS
    assert abs(mean - max(share, least)) <= (1 + 2 * RATE) / (RATE * tokens)


def test_budget_recovers_from_a_share_that_could_not_be_kept() -> None:
    """The bar rests at its end meanwhile, so it does not take forever to come back."""
    policy = Budget((0.5,) * EXITS)
    memory = policy.init_state()
    for index in range(1, 200):  # nothing may leave
        _, [memory] = policy(replace(signal([0.9], 0, index), may_leave=[False]), [memory])
    stayed = 0
    while bool(policy(signal([0.05], 0, (index := index + 1)), [memory])[0]):
        _, [memory] = policy(signal([0.05], 0, index), [memory])
        stayed += 1
    assert 0 < stayed < 12, "from -RATE to the gate in steps of RATE / 4"
