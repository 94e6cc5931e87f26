"""Filters, penalties and noise (design 1, Sampling)."""

import math

import pytest
import torch

from .sampling import Sampling, choose, filtered, gumbel, penalise

LOGP = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64).log()


def kept(sampling: Sampling) -> list[int]:
    return filtered(LOGP, sampling).isfinite().nonzero().flatten().tolist()


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0, 1, 2, 3]),
        (Sampling(top_k=2), [1, 3]),
        (Sampling(top_p=0.39), [1]),  # the best alone reaches it
        (Sampling(top_p=0.41), [1, 3]),
        (Sampling(top_p=0.0), [1]),  # the best always stays
        (Sampling(top_k=2, top_p=0.55), [1]),  # 0.4 / 0.7 after top-k
        (Sampling(min_p=0.5), [1, 2, 3]),
        (Sampling(top_k=3, top_p=0.9, min_p=0.6), [1, 3]),
    ],
)
def test_filters(sampling: Sampling, expected: list[int]) -> None:
    assert kept(sampling) == expected


def test_greedy_takes_the_lowest_of_equals() -> None:
    token, logprob = choose(torch.tensor([0.0, 2.0, 2.0]), [], Sampling())
    assert token == 1 and math.isclose(logprob, 2 - math.log(1 + 2 * math.exp(2)))


def test_top_k_keeps_the_equals_of_its_last() -> None:
    logp = torch.tensor([0.0, 1.0, 0.0, -1.0], dtype=torch.float64).log_softmax(0)
    assert filtered(logp, Sampling(top_k=2)).isfinite().tolist() == [True, True, True, False]


def test_logprob_is_before_the_filter_and_after_temperature() -> None:
    logits = torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64)
    token, logprob = choose(logits, [0], Sampling(seed=1, temperature=0.5, top_k=1))
    assert token == 1 and logprob == (logits / 0.5).log_softmax(-1)[1].item()


def test_penalty_sees_its_window_only() -> None:
    logits = torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64)
    sampling = Sampling(repetition_penalty=2.0, penalty_window=2)
    assert penalise(logits, [2, 0, 1], sampling).tolist() == [0.5, -2.0, 2.0]
    assert penalise(logits, [], sampling) is logits
    assert penalise(logits, [2, 0, 1], Sampling(repetition_penalty=2.0)).tolist() == [0.5, -2.0, 1.0]


def test_noise_depends_on_seed_and_position_alone() -> None:
    assert torch.equal(gumbel(3, 5, 7), gumbel(3, 5, 7))
    assert not torch.equal(gumbel(3, 5, 7), gumbel(3, 6, 7)) and not torch.equal(
        gumbel(3, 5, 7), gumbel(4, 5, 7)
    )


def test_sampling_follows_the_distribution() -> None:
    """Of 4000 draws each token's share is within four standard deviations."""
    draws = [choose(LOGP, [0] * position, Sampling(seed=0))[0] for position in range(4000)]
    for token, probability in enumerate(LOGP.exp().tolist()):
        expected = 4000 * probability
        assert abs(draws.count(token) - expected) < 4 * math.sqrt(expected * (1 - probability))
