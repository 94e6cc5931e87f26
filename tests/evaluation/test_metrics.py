"""The numbers say what was computed, not what was wished for."""

from __future__ import annotations

from offramp.engine.reply import Generation, Stats, TokenEvent
from offramp.evaluation.metrics import (
    accepted_share,
    blocks_skipped,
    drafted_share,
    mean_depth,
    weight_reads,
)


def generation(depths: list[int], drafted: list[bool] | None = None, **stats: int) -> Generation:
    flags = drafted or [False] * len(depths)
    events = tuple(
        TokenEvent(i, "x", depth, None, flag, 0.0, best=i, index=i)
        for i, (depth, flag) in enumerate(zip(depths, flags, strict=True))
    )
    tokens = tuple(range(len(depths)))
    return Generation(tokens, "x" * len(depths), events, "eos", Stats(tokens=len(depths), **stats))


def test_full_depth_skips_nothing() -> None:
    """The first token comes from the prompt's own pass, which decoding's work leaves out."""
    full = generation([4, 4, 4], block_tokens=8, block_passes=8)
    assert (blocks_skipped([full], 4), weight_reads([full], 4), mean_depth([full])) == (0.0, 1.0, 4.0)


def test_work_is_summed_over_replies_not_averaged() -> None:
    short, long = generation([4, 2], block_tokens=2), generation([4, 4, 4, 4], block_tokens=12)
    assert blocks_skipped([short, long], 4) == 1 - 14 / 16


def test_rejected_drafts_cost() -> None:
    assert blocks_skipped([generation([4, 4], block_tokens=6)], 4) == -0.5


def test_drafts() -> None:
    reply = generation([4, 2, 2, 4], [False, True, True, False], drafts=4, accepted=2)
    assert (drafted_share([reply]), accepted_share([reply])) == (0.5, 0.5)
    assert accepted_share([generation([4])]) is None


def test_nothing_generated() -> None:
    empty = generation([])
    assert (mean_depth([empty]), blocks_skipped([empty], 4), weight_reads([empty], 4)) == (0.0, 0.0, 1.0)
