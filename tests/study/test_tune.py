"""Thresholds and curves of scores on held-out text."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from offramp.exits.base import ExitConfig
from offramp.exits.exit_set import build_exits
from offramp.study.tune import PRECISIONS, Said, gates_said, measured, reliability, scores_said
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.metrics import auroc
from tests.training.tiny import WIDTH, counting_documents, tiny_model


def said(seed: int = 0, tokens: int = 400) -> Said:
    """A score that is right as often as it says, at two exits of four blocks."""
    generator = torch.Generator().manual_seed(seed)
    values_EN = torch.rand(2, tokens, generator=generator)
    right_EN = torch.rand(2, tokens, generator=generator) < values_EN
    return Said((1, 3), 4, values_EN, right_EN, torch.arange(tokens) // 40)


@given(st.integers(0, 50), st.floats(0.05, 0.95))
def test_as_many_leave_as_were_asked_for(seed: int, share: float) -> None:
    one = said(seed)
    left = one.leaving(one.bar(share))
    assert abs(float(left.leaves_N.float().mean()) - share) < 0.01


def test_who_leaves_does_so_at_the_first_exit_that_lets_it() -> None:
    one = Said(
        (1, 3),
        4,
        torch.tensor([[0.9, 0.1, 0.1], [0.9, 0.8, 0.2]]),
        torch.tensor([[False, True, True], [True, True, True]]),
        torch.tensor([0, 0, 1]),
    )
    left = one.leaving(0.5)
    assert left.depth_N.tolist() == [1, 3, 4]
    assert left.leaves_N.tolist() == [True, True, False] and left.right_N.tolist() == [False, True, False]
    at = measured(one, [2 / 3])["points"]["0.666667"]
    assert at["documents"] == [[2, 2, 1, 4], [1, 0, 0, 4]]  # tokens, left, rightly, depths
    assert at["rates"] == [1 / 3, 1 / 2]


def test_numbers_are_those_of_the_tokens() -> None:
    one = said()
    found = measured(one, [0.5])
    assert found["auroc"] == [auroc(v, r) for v, r in zip(one.values_EN, one.right_EN, strict=True)]
    documents = torch.tensor(found["points"]["0.5"]["documents"])
    assert documents[:, 0].tolist() == [40] * 10 and int(documents[:, 1].sum()) == 200
    shares = [found["most"][f"{at:g}"] for at in PRECISIONS]
    assert shares == sorted(shares, reverse=True)
    depths = [depth for _, _, depth in found["curve"]]
    assert depths == sorted(depths, reverse=True)


def test_reliability_of_an_honest_score_lies_on_the_diagonal() -> None:
    one = said(tokens=20_000)
    for values_N, right_N in zip(one.values_EN, one.right_EN, strict=True):
        bins = reliability(values_N, right_N)
        assert sum(count for _, _, count in bins) == 20_000 and len(bins) == 10
        assert all(abs(value - right) < 0.05 for value, right, _ in bins)


def test_gates_hear_every_text_as_it_stands_alone() -> None:
    """What is said of a text does not depend on those it is read with."""
    model = tiny_model(6)
    sets = {
        gate: build_exits(ExitConfig(gate, "none", (2, 4), WIDTH, 1e-5, bottleneck=8), 6)
        for gate in ("mamba", "mlp")
    }
    texts = counting_documents(4, 20) + counting_documents(3, 9)
    together = gates_said(model, sets, texts, ExitTrainConfig())
    for gate, one in together.items():
        alone = [gates_said(model, {gate: sets[gate]}, [text], ExitTrainConfig())[gate] for text in texts]
        torch.testing.assert_close(one.values_EN, torch.cat([each.values_EN for each in alone], 1))
        assert torch.equal(one.right_EN, torch.cat([each.right_EN for each in alone], 1))
        assert one.document_N.unique().tolist() == list(range(7))


def test_scores_of_rules_are_those_of_their_policies() -> None:
    model = tiny_model(6)
    texts = counting_documents(3, 20)
    found = scores_said(model, (2, 4), ["confidence", "margin", "saturation"], texts)
    hidden = model.hidden_states(torch.tensor(texts))
    logits_NV = model.logits(hidden[4]).flatten(0, 1)
    torch.testing.assert_close(found["confidence"].values_EN[1], logits_NV.softmax(-1).amax(-1))
    cosine_N = torch.cosine_similarity(hidden[2], hidden[4], dim=-1).flatten()
    torch.testing.assert_close(found["saturation"].values_EN[1], cosine_N.clamp(max=1))
    right_N = logits_NV.argmax(-1) == model.logits(hidden[6]).flatten(0, 1).argmax(-1)
    assert all(torch.equal(one.right_EN[1], right_N) for one in found.values())
