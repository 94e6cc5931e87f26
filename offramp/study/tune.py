"""Gates and other scores on held-out text, teacher-forced: thresholds for every share of tokens that is to leave.

One pass of the backbone serves all exit sets; nothing runs free. Every document counts by itself, so that what is
compared can be drawn again by document.

Shapes: E exits, N positions, B bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from offramp.data.documents import Ids
from offramp.exits.exit_set import ExitSet
from offramp.models.base import Model
from offramp.policies.base import ExitPolicy, ScorePolicy, Signal
from offramp.registry import find
from offramp.study.together import Lesson
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.metrics import auroc

BATCH = 4096
"""Positions in a pass of the backbone."""
BINS = 10
CURVE = 40
PRECISIONS = (0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Said:
    """What a score says of held-out tokens at each exit, and whether the exit's token is the full model's.

    document_N: the number of the document that each position is from.
    """

    after: tuple[int, ...]
    blocks: int
    values_EN: Tensor
    right_EN: Tensor
    document_N: Tensor

    def leaving(self, bar: float) -> Leaving:
        """Who leaves when the score must be greater than `bar` at every exit, and where."""
        passes_EN = self.values_EN > bar
        first_N = passes_EN.int().argmax(0)
        leaves_N = passes_EN.any(0)
        right_N = self.right_EN.gather(0, first_N[None])[0] & leaves_N
        depth_N = torch.where(leaves_N, torch.tensor(self.after)[first_N], self.blocks)
        return Leaving(first_N, leaves_N, right_N, depth_N)

    def bar(self, share: float) -> float:
        """The number that so large a share of tokens passes at one exit or another."""
        highest_N = self.values_EN.amax(0).double()
        return float(highest_N.quantile(1 - share).clamp(0, 1))


@dataclass(frozen=True)
class Leaving:
    """By token: the first exit it passes, whether any, whether rightly, and the blocks behind its choice."""

    first_N: Tensor
    leaves_N: Tensor
    right_N: Tensor
    depth_N: Tensor


def gates_said(
    model: Model, sets: Mapping[str, ExitSet], texts: Sequence[Ids], config: ExitTrainConfig
) -> dict[str, Said]:
    """What the gates of all sets say of the texts, each read from its beginning as one row."""
    values: dict[str, list[Tensor]] = {name: [] for name in sets}
    right: dict[str, list[Tensor]] = {name: [] for name in sets}
    for rows in _batches(texts):
        lesson = Lesson(model, rows)
        for name, exits in sets.items():
            with torch.no_grad():
                seen = lesson.observe(exits, config, distil=exits.bridges_learn)
            values[name].append(seen.gates_EN.sigmoid())
            right[name].append(seen.agreed_EN)
    document_N, blocks = _documents(texts), len(model.blocks)
    return {
        name: Said(exits.after, blocks, torch.cat(values[name], 1), torch.cat(right[name], 1), document_N)
        for name, exits in sets.items()
    }


@torch.no_grad()
def scores_said(
    model: Model, after: tuple[int, ...], policies: Sequence[str], texts: Sequence[Ids]
) -> dict[str, Said]:
    """What policies that ask no gate say of exits that read the shared norm and head as they are."""
    rules = {name: _rule(name, len(after)) for name in policies}
    values: dict[str, list[Tensor]] = {name: [] for name in policies}
    right: list[Tensor] = []
    for rows in _batches(texts):
        lesson = Lesson(model, rows)
        hidden = [x_RTD[lesson.real_RT] for x_RTD in lesson.hidden]
        full_N = model.logits(hidden[-1]).argmax(-1)
        said: dict[str, list[Tensor]] = {name: [] for name in policies}
        agreed = []
        for e, (before, at) in enumerate(zip((0, *after), after, strict=False)):
            signal = _signal(e, at, hidden[before], hidden[at], model)
            assert signal.logits_RV is not None
            agreed.append(signal.logits_RV.argmax(-1) == full_N)
            for name, rule in rules.items():
                said[name].append(rule.score(signal).float())
        right.append(torch.stack(agreed))
        for name, scored in said.items():
            values[name].append(torch.stack(scored))
    right_EN, document_N, blocks = torch.cat(right, 1), _documents(texts), len(model.blocks)
    return {name: Said(after, blocks, torch.cat(values[name], 1), right_EN, document_N) for name in policies}


def measured(said: Said, shares: Sequence[float]) -> dict[str, Any]:
    """Numbers of one score, as JSON: by exit, along the curve of shares that leave, and by document at `shares`."""
    pairs = list(zip(said.values_EN, said.right_EN, strict=True))
    curve = [_point(said, share) for share in torch.linspace(0.02, 0.98, CURVE).tolist()]
    return {
        "after": list(said.after),
        "tokens": said.values_EN.shape[1],
        "agreement": [float(right_N.float().mean()) for right_N in said.right_EN],
        "auroc": [auroc(*pair) for pair in pairs],
        "reliability": [reliability(*pair) for pair in pairs],
        "curve": curve,
        "most": {f"{at:g}": _most(curve, at) for at in PRECISIONS},
        "points": {f"{share:g}": _at(said, share) for share in shares},
    }


def reliability(values_N: Tensor, right_N: Tensor) -> list[list[float]]:
    """By bin of the value that has tokens: mean value, share right, tokens."""
    bin_N = (values_N * BINS).long().clamp(0, BINS - 1)
    found = []
    for b in bin_N.unique().tolist():
        here_N = bin_N == b
        found.append(
            [float(values_N[here_N].mean()), float(right_N[here_N].float().mean()), int(here_N.sum())]
        )
    return found


def _point(said: Said, share: float) -> list[float]:
    """Share that leaves, share of those that are right, mean depth of all."""
    left = said.leaving(said.bar(share))
    count = int(left.leaves_N.sum())
    right = float(left.right_N.sum()) / count if count else 1.0
    return [count / len(left.leaves_N), right, float(left.depth_N.float().mean())]


def _most(curve: Sequence[Sequence[float]], precision: float) -> float:
    """The largest share that leaves while at least so many of them are right; 0 where none does."""
    return max((share for share, right, _ in curve if right >= precision), default=0.0)


def _at(said: Said, share: float) -> dict[str, Any]:
    """The bar of one share, how many of those that reach an exit leave there, and counts by document."""
    bar = said.bar(share)
    left = said.leaving(bar)
    rates, reach_N = [], torch.ones_like(left.leaves_N)
    for e in range(len(said.after)):
        here_N = left.leaves_N & (left.first_N == e)
        rates.append(float(here_N.sum()) / max(1, int(reach_N.sum())))
        reach_N = reach_N & ~here_N
    columns = (torch.ones_like(left.depth_N), left.leaves_N, left.right_N, left.depth_N)
    documents = int(said.document_N.max()) + 1
    sums = [torch.zeros(documents).index_add_(0, said.document_N, column.float()) for column in columns]
    return {"bar": bar, "rates": rates, "documents": torch.stack(sums, 1).long().tolist()}


def _batches(texts: Sequence[Ids]) -> list[list[Ids]]:
    """In order, a few rows at a time."""
    longest = max(map(len, texts))
    rows = max(1, BATCH // longest)
    return [list(texts[start : start + rows]) for start in range(0, len(texts), rows)]


def _documents(texts: Sequence[Ids]) -> Tensor:
    return torch.cat([torch.full((len(text),), number) for number, text in enumerate(texts)])


def _rule(name: str, exits: int) -> ScorePolicy:
    rule = find("offramp.policies", name, ExitPolicy)([0.5] * exits)
    assert isinstance(rule, ScorePolicy), f"{name} has no score to set a bar for"
    return rule


def _signal(exit: int, depth: int, entering_ND: Tensor, leaving_ND: Tensor, model: Model) -> Signal:
    count = len(leaving_ND)
    return Signal(
        exit=exit,
        depth=depth,
        blocks=len(model.blocks),
        gate_R=torch.zeros(count),
        entering_RD=entering_ND,
        leaving_RD=leaving_ND,
        index=[0] * count,
        max_tokens=[count] * count,
        may_leave=[True] * count,
        logits_RV=model.logits(leaving_ND),
    )
