"""The measures of the study, each by itself: quality, agreement, compute and degeneration never mix.

Each is a sum over items divided by another (`Pair`), so that short replies weigh what they are, and means can be
drawn again by `bootstrap`. Wall clock is none of them: see `wallclock`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from offramp.errors import UsageError
from offramp.evaluation.bootstrap import Interval, Sample, interval
from offramp.evaluation.evaluate import Evaluation, Judged
from offramp.evaluation.reduction import Pair


@dataclass(frozen=True)
class Measure:
    """kind: one of KINDS. better: "higher", "lower", or "" where neither is.

    of: an item's part and whole, given the full model's number of blocks; None where the item says nothing.
    """

    name: str
    kind: str
    better: str
    of: Callable[[Judged, int], Pair | None]


KINDS = ("quality", "agreement", "compute", "degeneration")


def _after_first(item: Judged, num_blocks: int) -> float:
    """(block, token) pairs at full depth; the first token's are the prompt's."""
    return num_blocks * max(len(item.reply.tokens) - 1, 0)


def _bytes(item: Judged) -> Pair:
    return (
        item.cost.weight_bytes + item.cost.state_bytes,
        item.full_cost.weight_bytes + item.full_cost.state_bytes,
    )


def _flops(item: Judged) -> Pair:
    return item.cost.flops + item.cost.pointwise, item.full_cost.flops + item.full_cost.pointwise


def _known(value: float | None) -> Pair | None:
    return None if value is None else (float(value), 1.0)


def _length_ratio(item: Judged, num_blocks: int) -> Pair | None:
    return None if item.full_tokens is None else (len(item.reply.tokens), item.full_tokens)


MEASURES = (
    Measure("agreement", "agreement", "higher", lambda item, _: (sum(item.agreed), len(item.agreed))),
    Measure("consistency", "agreement", "higher", lambda item, _: _known(item.similarity)),
    Measure("identical", "agreement", "higher", lambda item, _: _known(item.identical)),
    Measure("depth", "compute", "lower", lambda item, _: (sum(item.reply.depths), len(item.reply.depths))),
    Measure(
        "blocks_skipped",
        "compute",
        "higher",
        lambda item, n: (_after_first(item, n) - item.reply.block_tokens, _after_first(item, n)),
    ),
    Measure(
        "weight_reads", "compute", "lower", lambda item, n: (item.reply.block_passes, _after_first(item, n))
    ),
    Measure("bytes", "compute", "lower", lambda item, _: _bytes(item)),
    Measure("flops", "compute", "lower", lambda item, _: _flops(item)),
    Measure("reduction_published", "compute", "higher", lambda item, _: item.published),
    Measure("reduction_corrected", "compute", "higher", lambda item, _: item.corrected),
    Measure("accepted", "compute", "higher", lambda item, _: (item.reply.accepted, item.reply.drafts)),
    Measure("unfinished", "degeneration", "lower", lambda item, _: _known(item.unfinished)),
    Measure("looping", "degeneration", "lower", lambda item, _: _known(item.looping)),
    Measure("length_ratio", "degeneration", "", _length_ratio),
)
"""What every task has. agreement: tokens that are the full model's choice on the same prefix · consistency: similarity
to its own answer · identical: replies that are its own, token for token · depth: blocks behind a token's choice ·
blocks_skipped: (block, token) pairs never computed; rejected drafts make it negative · weight_reads, bytes, flops:
as a share of full depth's, gates, bridges, propagation and heads counted in the last two · accepted: drafts that were
confirmed · length_ratio: tokens, as a share of the full model's."""


def quality(name: str) -> Measure:
    """The task's score of that name, by the items' weights."""

    def of(item: Judged, num_blocks: int) -> Pair | None:
        return (item.scores[name] * item.weight, item.weight) if name in item.scores else None

    return Measure(name, "quality", "higher", of)


def measures_of(evaluation: Evaluation) -> tuple[Measure, ...]:
    """The task's scores, by name, then what every task has."""
    scores = dict.fromkeys(name for item in evaluation.items for name in item.scores)
    return (*map(quality, scores), *MEASURES)


def sample(seeds: Sequence[Evaluation], measure: Measure, without: Collection[str] = ()) -> Sample:
    """A measure of one arm, for `bootstrap`. seeds: its evaluations, one a training seed, on the same items.

    without: the ids of prompts to leave out, such as those of `loopers`.
    Raises UsageError where the evaluations have other items.
    """
    names = [[item.reply.prompt for item in one.items] for one in seeds]
    if not names or any(other != names[0] for other in names):
        raise UsageError(
            "the training seeds of an arm must be evaluated on the same items, in the same order."
        )
    return Sample.of(
        [
            [None if item.reply.prompt in without else measure.of(item, one.num_blocks) for item in one.items]
            for one in seeds
        ]
    )


def loopers(*evaluations: Evaluation) -> set[str]:
    """The ids of prompts whose replies loop in any of these. Arms to compare leave out the same."""
    return {item.reply.prompt for one in evaluations for item in one.items if item.looping}


def summary(seeds: Sequence[Evaluation], without: Collection[str] = ()) -> dict[str, dict[str, Interval]]:
    """Every measure with its interval: by kind, then by name. What nothing is known of is left out."""
    found: dict[str, dict[str, Interval]] = {kind: {} for kind in KINDS}
    for measure in measures_of(seeds[0]):
        table = sample(seeds, measure, without)
        if table.whole_SI.any():
            found[measure.kind][measure.name] = interval(table)
    return found


def depth_histogram(evaluation: Evaluation) -> dict[int, int]:
    """Tokens by depth, the first of each reply left out: it comes from the prompt's pass. Depths rise."""
    depths = Counter(depth for item in evaluation.items for depth in item.reply.depths[1:])
    return dict(sorted(depths.items()))


@dataclass(frozen=True)
class TokenRecord:
    """A token of a heat map. text: what became certain with it, which may be part of what came before."""

    text: str
    depth: int
    gate: float | None
    agreed: bool


def token_records(item: Judged) -> list[TokenRecord]:
    """A reply token by token."""
    columns = zip(item.reply.pieces, item.reply.depths, item.reply.gates, item.agreed, strict=True)
    return [TokenRecord(*row) for row in columns]


def scores(evaluation: Evaluation) -> Mapping[str, float]:
    """The task's scores over all items, without intervals."""
    named = (measure for measure in measures_of(evaluation) if measure.kind == "quality")
    return {measure.name: sample([evaluation], measure).value for measure in named}
