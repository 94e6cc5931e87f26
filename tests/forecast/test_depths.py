"""Agreement by depth is what whole passes say, whatever is batched, padded or cut."""

from __future__ import annotations

import pytest
import torch
from random_models import CONTEXT, tiny

from offramp.errors import DataError
from offramp.exits.labels import choice
from offramp.forecast import agreement
from offramp.forecast.agreement import LAST_BLOCK, LENS, agreement_by_depth, grid
from offramp.forecast.prompts import Stretch, cut_prompts, given_text, own_text
from offramp.models.base import Model
from offramp.training.greedy import greedy
from offramp.training.readings import readings

PROMPTS = [[3, 5, 7], [1, 2], [9, 9, 9, 4, 30, 6], [8, 1, 12, 20]]


def directly(model: Model, stretch: Stretch, after: tuple[int, ...], bridge: str) -> list[int]:
    """Of one text: how many positions agree at each depth."""
    hidden = model.hidden_states(torch.tensor([list(stretch.ids[:-1])]))
    full_T = choice(model.logits(hidden[-1]))[0, stretch.begin - 1 :]
    read = readings(model, hidden, after, bridge == LAST_BLOCK)
    return [int((choice(model.logits(x_1TD))[0, stretch.begin - 1 :] == full_T).sum()) for x_1TD in read]


@pytest.mark.parametrize("backbone", ["llama", "mamba2", "mamba"])
def test_equal_to_a_direct_computation(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, after = tiny(backbone).model, (2, 4, 6)
    stretches = own_text(model, PROMPTS, 24)
    monkeypatch.setattr(agreement, "LOGITS", 37 * 5)  # five positions at a time
    monkeypatch.setattr(agreement, "BATCH_TOKENS", 64)  # two texts at a time
    found = agreement_by_depth(model, stretches, after)
    assert [(item.after, item.bridge) for item in found] == [
        (at, b) for at in after for b in (LENS, LAST_BLOCK)
    ]
    tokens = sum(len(item) - item.begin for item in stretches)
    for bridge in (LENS, LAST_BLOCK):
        with torch.inference_mode():
            counts = torch.tensor([directly(model, item, after, bridge) for item in stretches]).sum(0)
        shares = [item.share.value for item in found if item.bridge == bridge]
        assert shares == pytest.approx((counts / tokens).tolist())
    assert len({item.share.value for item in found}) > 2, "every depth says the same"


def test_directly_before_the_last_block_there_is_one_reading() -> None:
    model = tiny("llama").model
    found = agreement_by_depth(model, given_text(PROMPTS), (7,))
    assert [(item.after, item.bridge) for item in found] == [(7, LENS)]


def test_the_models_own_text() -> None:
    """Greedy, as whole passes decode it; without the end of text, which it may say."""
    model = tiny("mamba2").model
    stretches = sorted(own_text(model, PROMPTS, 12), key=lambda item: item.prompt)
    by_passes = greedy(model, PROMPTS, 12, stop=0)
    assert [list(item.ids[item.begin :]) for item in stretches] == by_passes
    assert [list(item.ids[: item.begin]) for item in stretches] == PROMPTS


def test_long_prompts_leave_room() -> None:
    model = tiny("llama").model
    (stretch, _) = own_text(model, [[4] * (CONTEXT + 5), [5] * 3], 10)
    assert len(stretch) <= CONTEXT


@pytest.mark.parametrize(
    ("blocks", "after"),
    [(2, (1,)), (4, (1, 2, 3)), (12, (1, 3, 4, 6, 7, 9, 10)), (32, (4, 8, 12, 16, 20, 24, 28))],
)
def test_the_grid(blocks: int, after: tuple[int, ...]) -> None:
    assert grid(blocks) == after


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def test_prompts_are_spread_evenly() -> None:
    texts = [chr(97 + i) * 9 for i in range(20)]
    found = cut_prompts(texts, letters, 5, 4)
    assert [chr(ids[0]) for ids in found] == ["a", "e", "i", "m", "q"] and {len(ids) for ids in found} == {4}


def test_one_long_text_gives_several() -> None:
    found = cut_prompts(["abcdefghij"], letters, 3, 4)
    assert ["".join(map(chr, ids)) for ids in found] == ["abcd", "efgh", "ij"]


def test_too_little_text_is_refused() -> None:
    with pytest.raises(DataError, match="gives 1 prompts.*at least 2"):
        cut_prompts(["abc", "d"], letters, 50, 64)
