"""The engine runs free over documents, at one step of the path after another; what it said becomes losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from offramp.calibration.items import Item, digest
from offramp.calibration.losses import Case, Metric
from offramp.calibration.memory import Memory
from offramp.calibration.trial import Trial
from offramp.engine.engine import Engine
from offramp.engine.request import Request
from offramp.evaluation.replies import Reply, reply_of
from offramp.evaluation.setting import FULL, Setting

SEEDS = 1 << 20


@dataclass(frozen=True)
class Collector:
    """engine has the exits, full has none; facts: what else decides a reply, for the memory's names."""

    engine: Engine
    full: Engine
    metric: Metric
    setting: Setting
    max_tokens: int
    stop: tuple[str, ...]
    facts: dict[str, Any]
    memory: Memory
    progress: Callable[[str, int, int], None]

    def trial(self, items: Sequence[Item], thresholds: Sequence[float], name: str = "") -> Trial:
        """What comes of these thresholds over all items."""
        setting = replace(self.setting, thresholds=tuple(thresholds))
        full = self.answers(items) if self.metric.compares else [None] * len(items)

        def find() -> dict[str, Any]:
            said = self._said(self.engine, setting, items, name)
            requests = self.requests(setting, items)
            cases = [Case(self.engine.model, *case) for case in zip(items, requests, said, full, strict=True)]
            losses = [self.metric.loss(case) for case in cases]
            depths = [fmean(reply.depths) if reply.depths else 0.0 for reply in said]
            return {"losses": losses, "depths": depths}

        found = self.memory.recall(self._question(setting, items, "losses"), find)
        return Trial(tuple(found["losses"]), tuple(found["depths"]))

    def answers(self, items: Sequence[Item]) -> list[Reply]:
        """The full model's own replies."""
        setting = replace(FULL, sampling=self.setting.sampling)
        found = self.memory.recall(
            self._question(setting, items, "answers"),
            lambda: {"replies": [r.to_json() for r in self._said(self.full, setting, items, "full depth")]},
        )
        return [Reply.from_json(raw) for raw in found["replies"]]

    def requests(self, setting: Setting, items: Sequence[Item]) -> list[Request]:
        """Each with noise of its own: else all documents would share their luck."""
        sampling = setting.sampling
        own = [
            replace(setting, sampling=replace(sampling, seed=sampling.seed * SEEDS + i))
            for i in range(len(items))
        ]
        return [
            one.request(item.prompt, self.max_tokens, self.stop) for one, item in zip(own, items, strict=True)
        ]

    def _said(self, engine: Engine, setting: Setting, items: Sequence[Item], name: str) -> list[Reply]:
        found: dict[int, Reply] = {}
        for place, generation in engine.generate_each(self.requests(setting, items)):
            found[place] = replace(reply_of(items[place].id, generation), work=None)
            self.progress(name, len(found), len(items))
        return [found[place] for place in range(len(items))]

    def _question(self, setting: Setting, items: Sequence[Item], what: str) -> dict[str, Any]:
        rule = {**asdict(setting), "name": what, "max_tokens": self.max_tokens, "stop": self.stop}
        return {"facts": self.facts, "rule": rule, "items": digest({"items": items})}

    def drafted(self, items: Sequence[Item], thresholds: Sequence[float]) -> tuple[int, int]:
        """Drafts judged and accepted under `verify` at these thresholds."""
        setting = replace(self.setting, propagation="verify", thresholds=tuple(thresholds))
        before = self.engine.agreement
        self._said(self.engine, setting, items, "verify")
        after = self.engine.agreement
        return after.judged - before.judged, after.accepted - before.accepted
