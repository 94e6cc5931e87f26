"""Choosing tokens: noise by place alone, filters in their order, penalties over a window."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from offramp.engine.reply import Choice
from offramp.engine.request import Request, Sampling
from offramp.engine.sampler import Place, choose, choose_each, keep_likely, penalise
from offramp.errors import UsageError
from offramp.ops import best
from offramp.ops.gumbel import gumbel


def test_noise_is_the_gumbel_distribution() -> None:
    """Mean is Euler's constant, variance pi^2 / 6; 200,000 draws, six standard errors."""
    noise = torch.cat([gumbel(1, position, 2000) for position in range(100)])
    assert abs(noise.mean().item() - 0.5772156649) < 6 * math.sqrt(math.pi**2 / 6 / len(noise))
    assert abs(noise.var().item() - math.pi**2 / 6) < 0.05


def test_noise_depends_on_seed_position_and_token_only() -> None:
    assert torch.equal(gumbel(3, 9, 50), gumbel(3, 9, 80)[:50])
    assert not torch.equal(gumbel(3, 9, 50), gumbel(4, 9, 50))
    assert not torch.equal(gumbel(3, 9, 50), gumbel(3, 10, 50))
    shifted = gumbel(3, 9, 51)[1:]
    assert not any(torch.equal(gumbel(3, p, 50), shifted) for p in range(20)), "positions must not be shifts"


def test_noise_is_the_same_on_every_machine() -> None:
    """A reply with a seed is kept by people; the hash may never change."""
    known = [1.0530590593, -0.6807578025, 3.5293597414]
    assert gumbel(0, 0, 3).tolist() == pytest.approx(known, abs=1e-9)


def test_sampled_shares_follow_the_distribution() -> None:
    """A chi-square test over 4,000 positions; the 99.9 % point for 4 degrees of freedom is 18.5."""
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, 1.5])
    sampling = Sampling(temperature=0.8, seed=5)
    counts = torch.zeros(5)
    for position in range(4000):
        counts[choose(logits, [0] * position, sampling).token] += 1
    expected = (logits / 0.8).softmax(-1) * 4000
    assert ((counts - expected) ** 2 / expected).sum() < 18.5


def test_coldest_temperature_is_greedy() -> None:
    """The quotient stays finite: float32 would overflow."""
    logits = torch.tensor([1.0, 90.0, -80.0])
    chosen = choose(logits, [], Sampling(temperature=1e-6))
    assert (chosen.token, chosen.logprob) == (1, 0.0)


def test_greedy_takes_the_lowest_of_equals() -> None:
    assert choose(torch.tensor([0.0, 3.0, 3.0, 1.0]), [], Sampling()).token == 1


def test_logprob_is_after_temperature_and_before_filters() -> None:
    logits = torch.tensor([1.0, 0.5, 0.0])
    chosen = choose(logits, [], Sampling(temperature=0.5, top_k=1))
    assert chosen.logprob == pytest.approx((logits / 0.5).log_softmax(-1)[0].item())


def no_newest(logits_V: Tensor, before: Sequence[int]) -> Tensor:
    """A processor: never the newest token again. In float64, as it may give back another dtype."""
    return logits_V.double().index_fill(0, torch.tensor(before[-1:]), -torch.inf)


WAYS = (
    Sampling(),
    Sampling(temperature=0.7, seed=1),
    Sampling(temperature=1.0, seed=2, top_k=5),
    Sampling(temperature=1.3, seed=3, top_p=0.8, min_p=0.01),
    Sampling(repetition_penalty=1.7, penalty_window=3),
    Sampling(temperature=0.9, seed=-4, repetition_penalty=0.6, processor=no_newest),
    Sampling(processor=no_newest),
)


def _sound(logits_RV: Tensor, places: Sequence[Place]) -> list[Choice]:
    return [choice for choice in choose_each(logits_RV, places) if choice is not None]


def _logits(rows: int, vocab: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rows with a tie for the best, with tokens that cannot be chosen, and with neither."""
    logits_RV = torch.randn(rows, vocab, generator=torch.Generator().manual_seed(vocab)) * 4
    logits_RV[0::3, vocab // 2] = logits_RV[0::3].amax(-1)
    logits_RV[1::3, 1 : vocab // 3] = -torch.inf
    return logits_RV.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("vocab", [7, 65, 1000, 4096])
def test_a_row_chooses_the_same_in_company(vocab: int, dtype: torch.dtype) -> None:
    """Every way of sampling beside every other, at several places; the logprob has the same bits."""
    logits_RV = _logits(40, vocab, dtype)
    kept_RV = logits_RV.clone()
    befores = [[i % vocab, (3 * i) % vocab, i % 5] for i in range(40)]
    samplings = [WAYS[i % len(WAYS)] for i in range(40)]
    alone = [choose(*row) for row in zip(logits_RV, befores, samplings, strict=True)]
    assert len({choice.token for choice in alone}) > 3, "the case must have different answers"
    for rows in (slice(0, 40), slice(0, 2), slice(3, 20), slice(7, 40, 7), slice(33, 40), slice(0, 0)):
        places = [Place(*each) for each in zip(befores[rows], samplings[rows], strict=True)]
        assert choose_each(logits_RV[rows], places) == alone[rows]
    assert torch.equal(logits_RV, kept_RV), "the logits are read only"


def test_many_rows_are_chosen_for_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    logits_RV = _logits(10, 60)
    places = [Place([i], WAYS[i % 7]) for i in range(10)]
    monkeypatch.setenv("OFFRAMP_KERNELS", "none")
    at_once = choose_each(logits_RV, places)
    for numbers in (1, 60, 200):
        monkeypatch.setattr(best, "TOGETHER", numbers)
        assert choose_each(logits_RV, places) == at_once


def test_a_processor_may_say_finer_things_than_the_logits() -> None:
    """A difference that bfloat16 has no numbers for decides."""

    def prefer_third(logits_V: Tensor, before: Sequence[int]) -> Tensor:
        return logits_V.double() + torch.tensor([0.0, 0.0, 1e-6])

    logits_RV = torch.tensor([[8.0, 7.0, 8.0]] * 2, dtype=torch.bfloat16)
    places = [Place([0], Sampling(processor=prefer_third)), Place([0], Sampling())]
    assert [choice.token for choice in _sound(logits_RV, places)] == [2, 0]


def test_noise_in_company_is_the_noise_alone() -> None:
    """Rows without any preference show their noise: its largest is what is chosen."""
    places = [Place([0] * i, Sampling(temperature=1.0, seed=i % 4)) for i in range(30)]
    chosen = _sound(torch.zeros(30, 500), places)
    assert [choice.token for choice in chosen] == [int(gumbel(i % 4, i, 500).argmax()) for i in range(30)]


@pytest.mark.parametrize("sampling", WAYS)
def test_a_forced_token_keeps_its_logprob_and_what_would_have_been(sampling: Sampling) -> None:
    logits_RV = _logits(4, 50)
    free = _sound(logits_RV, [Place([1, 2, 3], sampling)] * 4)
    wanted = [None, 0, free[2].token, 0]
    forced = _sound(logits_RV, [Place([1, 2, 3], sampling, token) for token in wanted])
    assert [choice.best for choice in free] == [choice.token for choice in free]
    assert [choice.best for choice in forced] == [choice.token for choice in free]
    assert forced[0] == free[0] and forced[2] == free[2]
    assert forced[1].token == forced[3].token == 0
    if sampling.processor is None and sampling.repetition_penalty == 1:
        logp_V = (logits_RV[3].double() / (sampling.temperature or 1)).log_softmax(-1)
        assert forced[3].logprob == pytest.approx(float(logp_V[0]), abs=2e-6)


def test_a_forced_token_may_be_impossible() -> None:
    [forced] = _sound(torch.tensor([[0.0, -torch.inf]]), [Place([0], Sampling(), 1)])
    assert (forced.token, forced.logprob, forced.best) == (1, -math.inf, 0)


def test_an_answer_for_every_row_is_wanted() -> None:
    with pytest.raises(AssertionError):
        choose_each(torch.zeros(2, 3), [Place([0], Sampling())])


@pytest.mark.parametrize("sampling", WAYS)
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_nothing_is_chosen_from_what_are_no_numbers(sampling: Sampling, wrong: float) -> None:
    """One NaN, one infinity, or nothing but tokens that cannot be chosen; the row beside it is whole."""
    logits_RV = torch.randn(2, 5000, generator=torch.Generator().manual_seed(0))
    logits_RV[0, 4500 if wrong > 0 or wrong != wrong else slice(None)] = wrong
    broken, whole = choose_each(logits_RV, [Place([1], sampling)] * 2)
    assert broken is None and whole is not None


def _kept(sampling: Sampling, probabilities: list[float]) -> list[int]:
    filtered = keep_likely(torch.tensor(probabilities).log(), sampling)
    return [i for i, value in enumerate(filtered.tolist()) if value > -math.inf]


def test_filters() -> None:
    shares = [0.1, 0.4, 0.2, 0.3]
    assert _kept(Sampling(top_k=2), shares) == [1, 3]
    assert _kept(Sampling(top_k=9), shares) == [0, 1, 2, 3]
    assert _kept(Sampling(top_p=0.65), shares) == [1, 3]
    assert _kept(Sampling(top_p=0.75), shares) == [1, 2, 3]
    assert _kept(Sampling(min_p=0.6), shares) == [1, 3]
    assert _kept(Sampling(top_k=2, top_p=0.5), shares) == [1], "top-p counts what top-k left: 4/7 and 3/7"


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=12), st.floats(0.01, 1), st.floats(0, 0.99))
def test_filters_always_keep_the_best(logits: list[float], top_p: float, min_p: float) -> None:
    logp = torch.tensor(logits, dtype=torch.float64).log_softmax(-1)
    kept = keep_likely(logp, Sampling(top_p=top_p, min_p=min_p, top_k=1 + len(logits) // 2))
    assert kept[logp.argmax()] == logp.max()


def test_penalty_sees_its_window_only() -> None:
    logits = torch.tensor([2.0, -2.0, 1.0, 4.0])
    sampling = Sampling(repetition_penalty=2.0, penalty_window=2)
    assert penalise(logits, [3, 0, 1, 1], sampling).tolist() == [2.0, -4.0, 1.0, 4.0]
    assert penalise(logits, [3, 0, 1], sampling).tolist() == [1.0, -4.0, 1.0, 4.0]
    assert penalise(logits, [0, 1], Sampling()).tolist() == logits.tolist()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"temperature": -0.1}, "temperature is -0.1; it must be 0 (greedy) or at least"),
        ({"temperature": 1e-40}, "temperature is 1e-40"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0; it must be in (0, 1]"),
        ({"min_p": 1.0}, "min_p is 1.0"),
        ({"top_k": -1}, "top_k is -1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0"),
        ({"repetition_penalty": 1e-40}, "repetition_penalty is 1e-40"),
        ({"penalty_window": 0}, "penalty_window is 0"),
    ],
)
def test_sampling_out_of_range(options: dict[str, float], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Sampling(**options)  # type: ignore[arg-type]
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"prompt": ()}, "at least one token"),
        ({"prompt": (1,), "thresholds": (0.5, 1.2)}, "threshold is 1.2; it must be in [0, 1]"),
        ({"prompt": (1,), "thresholds": (math.nan,)}, "threshold is nan"),
        ({"prompt": (1,), "run_max": 16}, "run_max is 16; it must be between 1 and 15"),
        ({"prompt": (1,), "max_tokens": 0}, "max_tokens is 0"),
        ({"prompt": (1,), "stop": ("a", "")}, "a stop string is ''; it must be at least one character"),
    ],
)
def test_request_out_of_range(options: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Request(**options)  # type: ignore[arg-type]
    assert text in str(caught.value)
