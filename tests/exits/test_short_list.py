"""Short lists of drafts: what they leave of logits, and how they are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from offramp.errors import ExitsError, UsageError
from offramp.exits.digest import exits_digest
from offramp.exits.labels import exact, label_positions
from offramp.exits.short_list import ShortList
from offramp.exits.store import build_exits, load_exits, read_exits, save_exits
from offramp.models.likeness import likeness
from tests.exits.test_store import BLOCKS, CONFIG, INFO, backbone, config, edit_weights

IDS = (1, 4, 9)
LISTED = replace(CONFIG, draft_vocabulary=len(IDS))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_exits(build_exits(CONFIG, BLOCKS).drafting_from(IDS), INFO, tmp_path / "exits")
    return tmp_path / "exits"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_left_of_logits(dtype: torch.dtype) -> None:
    short, logits = ShortList(torch.tensor(IDS)), torch.randn(2, 3, 11).to(dtype)
    left = short.among(logits)
    listed = torch.zeros(11, dtype=torch.bool).index_fill(0, torch.tensor(IDS), True)
    assert left.dtype == dtype and torch.equal(left[..., listed], logits[..., listed])
    assert bool((left[..., ~listed] == -torch.inf).all())
    assert torch.equal(short.spread(logits[..., listed], 11), left)


def test_a_tie_is_the_lowest_id_s() -> None:
    exits = build_exits(CONFIG, BLOCKS).drafting_from((9, 4, 4, 1))
    assert exits.config.draft_vocabulary == 3
    assert exits.drafted(torch.zeros(11)).argmax() == 1


def test_without_a_list_every_token_may_be_drafted() -> None:
    exits, logits = build_exits(LISTED, BLOCKS), torch.randn(11)
    assert torch.equal(exits.drafting_from(()).drafted(logits), logits)
    assert torch.equal(build_exits(CONFIG, BLOCKS).drafted(logits), logits)
    assert exits.drafting_from(()).config == CONFIG


def test_the_weights_are_shared_and_the_others_stay() -> None:
    exits = build_exits(CONFIG, BLOCKS)
    short = exits.drafting_from(IDS)
    assert [item.gate for item in short] == [item.gate for item in exits]
    assert short.config == LISTED and exits.config == CONFIG
    for kept in (short.without_bridges(), short.select((4,))):
        assert all(item.short_list is not None and item.short_list.ids.tolist() == [*IDS] for item in kept)
        assert kept.config.draft_vocabulary == 3


def test_a_list_comes_back(folder: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        exits, info = load_exits(folder, backbone(), dtype=dtype)
        assert exits.config == LISTED and info == INFO
        for item in exits:
            assert item.short_list is not None and item.short_list.ids.dtype == torch.int32
            assert item.short_list.ids.tolist() == [*IDS]
    assert read_exits(folder)[0].drafted(torch.ones(11)).isfinite().nonzero().flatten().tolist() == [*IDS]


def ids(values: list[float], dtype: torch.dtype = torch.int32) -> Callable[[Path], None]:
    name = "exits.1.short_list.ids"
    return edit_weights(lambda found: found.update({name: torch.tensor(values, dtype=dtype)}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (ids([1, 4, 11]), "drafts the token 11, but the model knows 11 only"),
        (ids([4, 1, 9]), "does not hold token ids in ascending order"),
        (ids([1, 1, 9]), "does not hold token ids in ascending order"),
        (ids([-1, 4, 9]), "does not hold token ids in ascending order"),
        (ids([1, 4, 9], torch.float32), "does not hold token ids in ascending order"),
        (ids([1, 4]), r"has shape \[2\], not \[3\]"),
        (
            edit_weights(lambda found: found.pop("exits.0.short_list.ids")),
            "exits.0.short_list.ids is missing",
        ),
        (config(draft_vocabulary=0), "short_list.ids is not part of these exits"),
        (config(draft_vocabulary=1 << 20), r"has shape \[3\], not \[1048576\]"),
        (config(draft_vocabulary=-1), "draft_vocabulary must be a number of tokens from 1"),
        (config(draft_vocabulary=False), "draft_vocabulary must be a number of tokens from 1"),
        (config(draft_vocabulary="many"), "draft_vocabulary must be a number of tokens from 1"),
    ],
)
def test_damage_is_named(folder: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(folder)
    with pytest.raises(ExitsError, match=words):
        load_exits(folder, backbone())


def test_a_number_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="draft_vocabulary must be"):
        replace(CONFIG, draft_vocabulary=2.0)  # type: ignore[arg-type]


def test_what_depends_on_a_list_tells_it() -> None:
    """Certificates hold for a list, timings for its length; without one both are what they always were."""
    exits = build_exits(CONFIG, BLOCKS)
    several = [exits, exits.drafting_from(IDS), exits.drafting_from((1, 4, 8)), exits.drafting_from((1, 4))]
    assert len({exits_digest(one) for one in several}) == 4
    assert [likeness(one.exits[0]) == likeness(several[1].exits[0]) for one in several] == [
        False,
        True,
        True,
        False,
    ]
    assert "short_list" not in likeness(exits) and not any(
        "short_list" in name for name in exits.state_dict()
    )


def test_a_token_that_is_not_listed_is_a_wrong_draft() -> None:
    torch.manual_seed(0)
    exit_RTD, full_RTD, head = torch.randn(3, 40, 3), torch.randn(3, 40, 3), torch.randn(11, 3)
    exits = build_exits(CONFIG, BLOCKS).drafting_from(IDS)

    def found(drafted: Callable[[torch.Tensor], torch.Tensor], right_RTD: torch.Tensor) -> torch.Tensor:
        labels, agreed = label_positions(
            exact, 1, [exit_RTD], right_RTD, lambda x: x @ head.T, chunk=7, drafted=drafted
        )
        assert torch.equal(labels, agreed)
        return labels[0]

    full_RT = (exit_RTD @ head.T).argmax(-1)
    listed_RT = torch.isin(full_RT, torch.tensor(IDS))
    assert bool(found(build_exits(CONFIG, BLOCKS).drafted, exit_RTD).all())
    assert torch.equal(found(exits.drafted, exit_RTD), listed_RT) and 0 < listed_RT.sum() < listed_RT.numel()
    # Among the listed an exit may be right where, among all, it was wrong.
    best_RT = (exit_RTD @ head.T)[..., IDS].argmax(-1)
    full_RT = (full_RTD @ head.T).argmax(-1)
    assert torch.equal(found(exits.drafted, full_RTD), torch.tensor(IDS)[best_RT] == full_RT)
