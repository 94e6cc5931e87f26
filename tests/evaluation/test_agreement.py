"""Agreement is judged on the prefix as it was emitted."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from offramp.evaluation.agreement import agreeing
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
