"""Agreement is judged on the prefix as it was emitted."""

from __future__ import annotations

from dataclasses import replace

import torch
from random_models import tiny
from torch import Tensor, nn

from offramp.engine.request import Request, Sampling
from offramp.evaluation.agreement import TOGETHER, agreeing, full_choices
from offramp.models.base import Model, ModelConfig


class Successor(nn.Module):
    """Logits that choose the next id after the last one."""

    def forward(self, x_RTD: Tensor) -> Tensor:
        return x_RTD.roll(1, dims=-1)


def successor_model(vocabulary: int = 10) -> Model:
    config = ModelConfig("stand-in", vocabulary, vocabulary, 0, 64, 1e-5, False, None, ())
    embed = nn.Embedding(vocabulary, vocabulary, _weight=torch.eye(vocabulary))
    return Model(config, embed, [], nn.Identity(), Successor())


def test_an_early_mistake_is_counted_once() -> None:
    assert agreeing(successor_model(), [1, 2], [3, 4, 9, 0, 1]) == 4


def test_the_first_token_is_judged_on_the_prompt() -> None:
    assert agreeing(successor_model(), [1, 2], [3]) == 1
    assert agreeing(successor_model(), [1, 2], [2]) == 0


def test_nothing_generated_agrees_in_nothing() -> None:
    assert agreeing(successor_model(), [1], []) == 0


def test_full_choices_have_the_reply_s_noise_and_penalties() -> None:
    """A reply of the full model is its own choice everywhere, sampled and penalised as it was; greedily it is not."""
    model = tiny("llama")
    sampling = Sampling(temperature=1.2, top_k=12, repetition_penalty=1.4, penalty_window=5, seed=3)
    said = model.plain().generate(Request((5, 6, 7), policy="never", sampling=sampling, max_tokens=40))
    assert tuple(full_choices(model.model, (5, 6, 7), said.tokens, sampling)) == said.tokens
    for other in (Sampling(), replace(sampling, seed=4), replace(sampling, repetition_penalty=1.0)):
        assert tuple(full_choices(model.model, (5, 6, 7), said.tokens, other)) != said.tokens


def test_long_replies_are_judged_to_their_end() -> None:
    tokens = [(3 + i) % 10 for i in range(2 * TOGETHER + 5)]
    assert full_choices(successor_model(), [2], tokens, Sampling()) == tokens
    tokens[-1] = 0
    assert full_choices(successor_model(), [2], tokens, Sampling())[-1] != 0


def test_logits_that_are_no_numbers_agree_with_nothing() -> None:
    model = successor_model()
    model.embed.weight.data[4] = float("nan")
    assert full_choices(model, [2], [3, 4, 5, 6], Sampling()) == [3, 4, -1, 6]
    assert full_choices(model, [4], [4], Sampling()) == [-1]
