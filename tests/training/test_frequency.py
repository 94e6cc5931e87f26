"""The tokens that drafts are chosen among: counted in the data, kept with the exits, and in every gate's label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from offramp.calibration.observed import observed
from offramp.data.documents import Documents
from offramp.errors import UsageError
from offramp.exits.base import ExitConfig
from offramp.exits.exit_set import ExitSet, build_exits
from offramp.exits.store import load_exits
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.exits import measure, train_exits
from offramp.training.frequency import check_draft_vocabulary, frequent_tokens, listed
from offramp.training.observe import observe
from offramp.training.onpolicy.taped import taped
from offramp.training.recipe import ExitRecipe, Work
from tests.training.tiny import VOCABULARY, WIDTH, counting_documents, tiny_documents, tiny_model

SHAPE = ExitConfig("linear", "none", (2, 4, 6), WIDTH, 1e-5, None, draft_vocabulary=5)
CONFIG = ExitTrainConfig(steps=3, tokens_per_step=128, window=24, warmup_steps=1)
IDS = (3, 8, 17, 20, 31)


def test_commonest_first() -> None:
    data = Documents([[5, 5, 5, 2], [2, 7], [7, 9, 2]], [[1] * 50], "made up")
    assert frequent_tokens(data, 4, 12) == (2, 5, 7, 9)
    assert frequent_tokens(data, 6, 12) == (2, 5, 7, 9, 0, 1)  # the lowest of those that never come
    assert frequent_tokens(data, 3, 12, always=(11, 40)) == (11, 2, 5)


def test_the_data_and_the_tokens_that_end_a_text_decide() -> None:
    model, data = tiny_model(), Documents([[9, 9, 8, 8, 7]] * 20, [[1, 2]], "made up")
    exits = listed(build_exits(SHAPE, 8), replace(model.config, eos_token_ids=(30,)), data)
    assert [item.short_list and item.short_list.ids.tolist() for item in exits] == [[0, 7, 8, 9, 30]] * 3
    whole = build_exits(replace(SHAPE, draft_vocabulary=0), 8)
    assert listed(whole, model.config, data) is whole


@pytest.mark.parametrize("distil", [False, True])
def test_labels_and_agreement_are_about_the_draft(distil: bool) -> None:
    model, rows = tiny_model(), counting_documents(6, 20, seed=8)
    exits = build_exits(replace(SHAPE, bridge="lens" if distil else "none"), 8).drafting_from(IDS)
    seen = observe(model, exits, rows, CONFIG, distil)
    hidden = model.hidden_states(torch.tensor(rows))
    full_N = model.logits(hidden[-1]).argmax(-1).flatten()
    for e, item in enumerate(exits):
        drafts_N = torch.tensor(IDS)[model.logits(hidden[item.after])[..., IDS].argmax(-1)].flatten()
        assert torch.equal(seen.labels_EN[e], drafts_N == full_N)
        assert torch.equal(seen.agreed_EN[e], drafts_N == full_N)
    assert seen.labels_EN.any() and not seen.labels_EN[:, ~torch.isin(full_N, torch.tensor(IDS))].any()


def test_what_is_calibrated_is_what_would_be_emitted() -> None:
    """Lossy modes choose among all tokens."""
    model, texts = tiny_model(), counting_documents(6, 20, seed=8)
    whole = build_exits(replace(SHAPE, draft_vocabulary=0), 8)
    right = [observed(model, exits, texts).right_EN for exits in (whole, whole.drafting_from(IDS))]
    assert (right[0] == right[1]).all()


def test_a_recipe_counts_trains_and_keeps(tmp_path: Path) -> None:
    model, data = tiny_model(), tiny_documents()
    work = Work(tmp_path, model, data, tmp_path / "exits")
    recipe = ExitRecipe("some", SHAPE, CONFIG)
    recipe.check(model.config)
    done = recipe.train(work)
    exits, info = load_exits(tmp_path / "exits", model)
    wanted = sorted(frequent_tokens(data, 5, VOCABULARY, model.config.eos_token_ids))
    assert [item.short_list and item.short_list.ids.tolist() for item in exits] == [wanted] * 3
    assert info.data["recipe"]["exits"]["draft_vocabulary"] == 5 and done.metrics == info.metrics
    again, _ = measure(model, exits, data.held_out, CONFIG)
    among_all, _ = measure(model, exits.drafting_from(()), data.held_out, CONFIG)
    assert [one["agreement"] for one in again] == [found["agreement"] for found in info.metrics.values()]
    assert again != among_all


def test_exits_that_tape_draft_alike() -> None:
    exits = build_exits(SHAPE, 8).drafting_from(IDS)
    assert [item.short_list for item in taped(exits)] == [item.short_list for item in exits]


def _trained(exits: ExitSet, config: ExitTrainConfig, out: Path) -> None:
    train_exits(tiny_model(), exits, tiny_documents(), config, out)


def test_mistakes(tmp_path: Path) -> None:
    check_draft_vocabulary(0, "project", 32)
    check_draft_vocabulary(31, "verify", 32)
    with pytest.raises(UsageError, match="of 32 tokens shortens nothing: the model knows 32; .* would be 4"):
        check_draft_vocabulary(32, "verify", 32)
    recipe = ExitRecipe("some", SHAPE, replace(CONFIG, propagation="defer"))
    with pytest.raises(
        UsageError, match="for verify, where drafts are judged; under defer what an exit says"
    ):
        recipe.check(tiny_model().config)
    with pytest.raises(UsageError, match="for verify"):
        _trained(build_exits(SHAPE, 8), replace(CONFIG, propagation="project"), tmp_path / "exits")
    with pytest.raises(UsageError, match="of 40 tokens"):
        _trained(build_exits(replace(SHAPE, draft_vocabulary=40), 8), CONFIG, tmp_path / "exits")
