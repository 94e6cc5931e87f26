"""Agreement under `defer` without free runs: which tokens of the full model's own text would have left, and which of
those would have been another.

Under `defer` all states are exact, so along the full model's text one pass knows every gate's value. A free run says
other tokens once it has erred, and goes on from those; so this is an approximation, and certificates say so.

Shapes: E exits, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from offramp.calibration.items import Item
from offramp.calibration.observed import Observed, along
from offramp.calibration.temperature import Floats, sigmoid
from offramp.calibration.trial import Trial
from offramp.engine.request import Sampling
from offramp.errors import UsageError
from offramp.evaluation.replies import Reply
from offramp.evaluation.setting import Setting
from offramp.exits.exit_set import ExitSet
from offramp.models.base import Model


def check_forced(setting: Setting, metric: str) -> None:
    """Raises UsageError for what one pass cannot tell."""
    greedy = setting.sampling == Sampling(seed=setting.sampling.seed)
    if (setting.propagation, setting.policy, metric) != ("defer", "gate", "agreement") or not greedy:
        raise UsageError(
            "--teacher-forced serves agreement of greedy text under propagation defer and policy gate; leave it out, "
            "and the engine runs free."
        )


class Forced:
    """Trials without free runs; texts are looked at once for all steps. answers: gives the full model's replies."""

    def __init__(
        self,
        model: Model,
        exits: ExitSet,
        setting: Setting,
        answers: Callable[[Sequence[Item]], Sequence[Reply]],
    ) -> None:
        self.model, self.exits, self.setting, self.answers = model, exits, setting, answers
        self._seen: dict[tuple[Item, ...], list[Observed]] = {}

    def trial(self, items: Sequence[Item], thresholds: Sequence[float], name: str = "") -> Trial:
        """What would come of these thresholds over all items."""
        if (key := tuple(items)) not in self._seen:
            self._seen[key] = self._look(items)
        found = [
            self._loss(one, len(item.prompt), thresholds)
            for one, item in zip(self._seen[key], items, strict=True)
        ]
        losses, depths = zip(*found, strict=True)
        return Trial(losses, depths)

    def _look(self, items: Sequence[Item]) -> list[Observed]:
        texts = [
            (*item.prompt, *reply.tokens) for item, reply in zip(items, self.answers(items), strict=True)
        ]
        return [along(self.model, self.exits, text) for text in texts]

    def _loss(self, seen: Observed, prompt: int, thresholds: Sequence[float]) -> tuple[float, float]:
        """The share of a reply's tokens that leave and are wrong, and its mean depth. seen: along prompt and reply.

        The prompt's own pass gives the first token, which cannot leave.
        """
        left = leaving(sigmoid(seen.logits_EN[:, prompt:-1]), thresholds, self.setting.run_max)
        right_ET = seen.right_EN[:, prompt:-1]
        wrong = sum(exit is not None and not right_ET[exit, t] for t, exit in enumerate(left))
        blocks, after = len(self.model.blocks), self.exits.after
        depths = [blocks, *(blocks if exit is None else after[exit] for exit in left)]
        return wrong / len(depths), sum(depths) / len(depths)


def leaving(values_ET: Floats, thresholds: Sequence[float], run_max: int) -> list[int | None]:
    """The exit at which each token leaves, as the engine would have it: no more than run_max in a row."""
    found: list[int | None] = []
    run = 0
    for values_E in values_ET.T:
        sure = [e for e, (value, bar) in enumerate(zip(values_E, thresholds, strict=True)) if value > bar]
        found.append(sure[0] if sure and run < run_max else None)
        run = run + 1 if found[-1] is not None else 0
    return found
