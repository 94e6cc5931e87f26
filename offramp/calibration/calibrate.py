"""Thresholds with a guarantee: tuned on some documents, tested on others, looked at on a third part.

"With probability `confidence` over the draw of the calibration documents, E[loss] <= risk for new documents from the
same source": void where those come from elsewhere, and where the best of several calibrations was kept.

Shapes: E exits, N positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from offramp.calibration.collect import Collector
from offramp.calibration.drafted import BLOCKS, share_interval
from offramp.calibration.forced import Forced, check_forced
from offramp.calibration.items import Item, digest, distinct
from offramp.calibration.losses import metric_named
from offramp.calibration.memory import Memory
from offramp.calibration.observed import Observed, observed
from offramp.calibration.path import Thresholds, even_path, gate_path
from offramp.calibration.reliability import Reliability, reliability
from offramp.calibration.risk import Tested, Verdict, check_levels, fixed_sequence
from offramp.calibration.temperature import fit_temperature, sigmoid
from offramp.calibration.trial import Trial
from offramp.engine.engine import Engine
from offramp.engine.load import Checkpoint
from offramp.engine.promise import binding_of
from offramp.errors import DataError, ExitsError, UsageError
from offramp.evaluation.setting import Setting
from offramp.exits.certificate import Binding, Certificate, Step
from offramp.exits.certificates import refuse_second
from offramp.exits.exit_set import ExitSet
from offramp.policies.base import ExitPolicy
from offramp.propagation.base import Propagation
from offramp.registry import find

Progress = Callable[[str, int, int], None]
"""What runs, how many of its documents are done, of how many."""
MOST_SLOTS = 16


@dataclass(frozen=True)
class Plan:
    """What shall be promised, and for which replies.

    setting: propagation, policy, run_max and sampling; its thresholds are not read. steps: of the path.
    teacher_forced: agreement under `defer` from one pass over the full model's own text. every_step: also measure the
    steps behind the first that fails (it changes no verdict). seed: that of the split, for the record.
    """

    risk: float = 0.02
    confidence: float = 0.95
    metric: str = "agreement"
    setting: Setting = Setting("calibrated", "defer")
    max_tokens: int = 128
    stop: tuple[str, ...] = ()
    steps: int = 20
    teacher_forced: bool = False
    every_step: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises UsageError for what cannot be calibrated."""
        check_levels(self.risk, self.confidence)
        metric_named(self.metric)
        if find("offramp.propagation", self.setting.propagation, Propagation).judged:
            raise UsageError(
                f"{self.setting.propagation} gives the full model's own text: no risk to calibrate; name a lossy "
                "--propagation (defer, project, ...)."
            )
        find("offramp.policies", self.setting.policy, ExitPolicy)
        if self.setting.policy in ("never", "always"):
            raise UsageError(
                f"policy {self.setting.policy} reads no threshold, so there is none to calibrate."
            )
        if self.teacher_forced:
            check_forced(self.setting, self.metric)


@dataclass(frozen=True)
class Gate:
    """What tuning made of one exit's gate: its temperature, and how reliable it is on the test documents, as it is and
    at that temperature."""

    after: int
    temperature: float
    before: Reliability
    calibrated: Reliability


@dataclass(frozen=True)
class Calibration:
    """The certificate, what the gates are worth, and the loss of every calibration document at every step that was
    measured (steps x documents)."""

    certificate: Certificate
    gates: tuple[Gate, ...]
    losses: tuple[tuple[float, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """All of it as plain numbers."""
        return {
            "never": self.certificate.never,
            "thresholds": self.certificate.thresholds,
            **asdict(self),
        }


def calibrate(
    checkpoint: Checkpoint,
    parts: Mapping[str, Sequence[Item]],
    plan: Plan = Plan(),
    *,
    memory: Path | None = None,
    replace_earlier: bool = False,
    progress: Progress = lambda name, done, count: None,
) -> Calibration:
    """Tune a path of thresholds, test it step by step, keep the last that passes.

    parts: items of "tune", "calibrate" and "test"; of those with one prompt only the first counts. memory: a folder in
    which results are kept, so that an interrupted calibration goes on. Nothing is written beside the exits:
    `save_certificate` does.
    Raises UsageError for what cannot be calibrated; ExitsError where there are no exits, or they were calibrated before
    on other documents or steps (unless replace_earlier); DataError for parts without items.
    """
    if checkpoint.exits is None:
        raise ExitsError(f"{checkpoint.folder} has no exits to calibrate; `offramp train` trains some")
    parts = distinct(parts)
    for name in ("tune", "calibrate", "test"):
        if not parts.get(name):
            raise DataError(f"no documents to {name} on; give more")
    job = _Job(checkpoint, checkpoint.exits, parts, plan, memory, progress)
    if checkpoint.exits_folder is not None and not replace_earlier:
        refuse_second(checkpoint.exits_folder, job.certificate(Verdict(())))
    return job.run()


class _Job:
    """One calibration: its engines, its path, tuned when it is made, and what is found along it."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        exits: ExitSet,
        parts: Mapping[str, Sequence[Item]],
        plan: Plan,
        memory: Path | None,
        progress: Progress,
    ) -> None:
        self.model, self.exits, self.parts, self.plan = checkpoint.model, exits, parts, plan
        metric = metric_named(plan.metric)
        unanswered = [item for items in parts.values() for item in items if not item.answers]
        if metric.asks and unanswered:
            raise UsageError(
                f"metric {plan.metric} needs right answers, and document {unanswered[0].id} has none: name their field "
                "with --answer-field."
            )
        items = [item for part in ("calibrate", "test") for item in parts[part]]
        longest = max(items, key=lambda item: len(item.prompt))
        engines = [self._engine(checkpoint, longest, one) for one in (exits, None)]
        request = plan.setting.request(longest.prompt, plan.max_tokens, plan.stop)
        facts = engines[0].admission.facts
        self.binding: Binding = binding_of(facts, exits.config.bridge, request)
        engines[0].admission.check(replace(request, thresholds=(1.0,)))
        self.collector = Collector(
            engine=engines[0],
            full=engines[1],
            metric=metric,
            setting=plan.setting,
            max_tokens=plan.max_tokens,
            stop=plan.stop,
            facts={"metric": plan.metric, **asdict(facts)},
            memory=Memory(memory),
            progress=progress,
        )
        self.tries: Collector | Forced = self.collector
        if plan.teacher_forced:
            self.tries = Forced(checkpoint.model, exits, plan.setting, self.collector.answers)
        tune = observed(self.model, exits, [item.text for item in parts["tune"]])
        self.temperatures = tuple(map(fit_temperature, tune.logits_EN, tune.right_EN))
        self.path = self._path(tune)

    def _engine(self, checkpoint: Checkpoint, longest: Item, exits: ExitSet | None) -> Engine:
        length, context = len(longest.prompt) + self.plan.max_tokens, checkpoint.model.config.context_length
        if length > context:
            raise UsageError(
                f"prompts of {len(longest.prompt)} tokens and replies of {self.plan.max_tokens} do not fit the "
                f"model's context of {context}; ask for less (--prompt-tokens, --max-tokens)."
            )
        return Engine(checkpoint.model, exits, checkpoint.text, slots=MOST_SLOTS, max_len=length)

    def run(self) -> Calibration:
        """Test, and look at what was found."""
        trials: list[Trial] = []
        lossy = self._losses(self.path[1:], trials)
        plan = self.plan
        verdict = fixed_sequence(lossy, plan.risk, plan.confidence, metric_named(plan.metric).binary)
        if plan.every_step:
            list(lossy)
        certificate = self.certificate(verdict, trials)
        return Calibration(
            self._looked_at(certificate),
            self._gates(),
            tuple(trial.losses for trial in trials),
        )

    def _path(self, tune: Observed) -> tuple[Thresholds, ...]:
        if self.plan.setting.policy == "gate":
            return gate_path(tune.logits_EN, self.temperatures, self.plan.steps)
        return even_path(len(self.exits), self.plan.steps)

    def _losses(self, path: Sequence[Thresholds], trials: list[Trial]) -> Iterator[tuple[float, ...]]:
        """The losses of step after step, run when they are asked for; trials keeps them."""
        for i, thresholds in enumerate(path, 1):
            trials.append(self.tries.trial(self.parts["calibrate"], thresholds, f"step {i} of {len(path)}"))
            yield trials[-1].losses

    def certificate(self, verdict: Verdict, trials: Sequence[Trial] = ()) -> Certificate:
        """What the test says; of a verdict on nothing, what would be promised."""
        plan = self.plan
        loose = (_step(*one) for one in _padded(self.path[1:], trials, verdict.tested))
        return Certificate(
            binding=self.binding,
            metric=plan.metric,
            risk=plan.risk,
            confidence=plan.confidence,
            chosen=verdict.passed,
            path=(Step(self.path[0]), *loose),
            documents=len(self.parts["calibrate"]),
            data=digest(self.parts),
            needed=verdict.needed,
            teacher_forced=plan.teacher_forced,
            seed=plan.seed,
        )

    def _looked_at(self, certificate: Certificate) -> Certificate:
        """With the loss on documents that took no part, and the interval that verified traffic is held against."""
        if certificate.never:
            return certificate
        items = self.parts["calibrate"]
        size = max(1, -(-len(items) // BLOCKS))
        blocks = [items[start : start + size] for start in range(0, len(items), size)]
        counts = [self.collector.drafted(block, certificate.thresholds) for block in blocks]
        test = self.tries.trial(self.parts["test"], certificate.thresholds, "test")
        return replace(
            certificate,
            accepted=share_interval(counts),
            test_loss=fmean(test.losses),
            test_documents=len(test.losses),
        )

    def _gates(self) -> tuple[Gate, ...]:
        seen = observed(self.model, self.exits, [item.text for item in self.parts["test"]])
        return tuple(
            Gate(after, heat, reliability(sigmoid(z_N), right_N), reliability(sigmoid(z_N / heat), right_N))
            for after, heat, z_N, right_N in zip(
                self.exits.after, self.temperatures, seen.logits_EN, seen.right_EN, strict=True
            )
        )


def _padded(
    path: Sequence[Thresholds], trials: Sequence[Trial], tested: Sequence[Tested]
) -> Iterator[tuple[Thresholds, Trial | None, Tested | None]]:
    for i, thresholds in enumerate(path):
        yield thresholds, trials[i] if i < len(trials) else None, tested[i] if i < len(tested) else None


def _step(thresholds: Thresholds, trial: Trial | None, tested: Tested | None) -> Step:
    return Step(
        thresholds,
        loss=fmean(trial.losses) if trial else None,
        p=tested.p if tested else None,
        depth=trial.depth if trial else None,
    )
