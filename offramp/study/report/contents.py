"""A study's report, section by section, from whatever results there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from offramp.study.arms import BRIDGES, GATES, PAPER, REFERENCE
from offramp.study.plan import LOSSY
from offramp.study.report.behaviour import behaviour
from offramp.study.report.fronts import DEPTH, SPENT, differences, front_parts, numbers
from offramp.study.report.gates import (
    auroc_chart,
    calibration_error,
    curve_chart,
    gate_differences,
    gate_table,
    reliability_chart,
)
from offramp.study.report.looks import looks
from offramp.study.report.parts import Part, Report, Section
from offramp.study.report.runs import Arm, Front, Runs
from offramp.study.report.verified import verified

FEW = 5
"""Missing jobs that are named."""


@dataclass(frozen=True)
class Compared:
    """Arms that stand in one chart, by the names that it gives them. against: the one that others are held against,
    at: where both spend the same of it."""

    id: str
    title: str
    text: str
    arms: Mapping[str, Arm]
    against: str
    at: str = SPENT


def report(runs: Runs) -> Report:
    """Everything there is to say."""
    sections = [section for model in runs.models for section in _model_sections(runs, model)]
    scale = runs.manifest.scale
    summary = [
        f"{len(runs.found)} of {len(runs.manifest.jobs)} jobs of the {scale} study have results; they took "
        f"{sum(runs.seconds.values()) / 60:.0f} minutes of a core.",
        "No winner is named inside the noise. Quality, agreement, compute and wall clock are measured apart and do not "
        "mix. Small models: what is said here is said of them.",
    ]
    if runs.missing:
        summary.append(f"{len(runs.missing)} jobs have no result, and are left out: {_few(runs.missing)}.")
    seeds = sorted({seed for job in runs.manifest.jobs if (seed := job.settings.get("seed")) is not None})
    provenance = {
        **runs.manifest.provenance,
        "training seeds": ", ".join(map(str, seeds)),
        "bootstrap seed": "0",
    }
    return Report(f"Early exits: {', '.join(runs.models)}", tuple(summary), provenance, tuple(sections))


def _few(names: Sequence[str]) -> str:
    """The first ones."""
    return ", ".join(names[:FEW]) + (", ..." if len(names) > FEW else "")


def _model_sections(runs: Runs, model: str) -> Iterator[Section]:
    if (section := _gates(runs, model)) is not None:
        yield section
    for compared in _comparisons():
        fronts = {name: found for name, arm in compared.arms.items() if (found := runs.front(model, arm))}
        if compared.id == "policies":
            fronts |= _without_gates(runs, model)
        if fronts:
            yield _compared(runs, model, compared, fronts)
    yield from verified(runs, model)
    yield from behaviour(runs, model)


def _comparisons() -> Iterable[Compared]:
    yield Compared(
        "gates",
        f"gates, running free ({LOSSY})",
        "Every gate decides alone which tokens leave; what they leave behind is projected into the deeper state. "
        "Sizes are equal in parameters; linear is the floor.",
        {arm: Arm("gates", arm, LOSSY) for arm in GATES},
        REFERENCE,
    )
    yield Compared(
        "propagations",
        "what deeper layers receive",
        f"One gate ({REFERENCE}) under every propagation. Without attention the copies are the same as skip.",
        {
            name: Arm("gates", REFERENCE, name)
            for name in (LOSSY, "defer", "copy_block", "copy_token", "skip")
        },
        LOSSY,
        DEPTH,
    )
    yield Compared(
        "bridges",
        "frozen, lens, drafter, joint, on-policy, and the paper's recipes",
        "What stands between an exit and the head, and how the exits were trained. layerskip: the model itself was "
        "fine-tuned to leave early first, and is agreed with as it then is: only its right answers compare.",
        {
            "frozen": Arm("gates", REFERENCE, LOSSY),
            **{arm: Arm("bridges", arm, LOSSY) for arm in BRIDGES},
            "on-policy": Arm("on-policy", "on-policy", LOSSY),
            "layerskip": Arm("joint", REFERENCE, LOSSY),
            **{
                f"{arm}, {name}": Arm("paper", arm, name)
                for arm in PAPER
                for name in (LOSSY, "copy_block", "copy_token")
            },
        },
        "frozen",
    )
    rules = ("random", "confidence", "margin", "entropy", "saturation")
    yield Compared(
        "policies",
        "baselines: rules without a trained gate",
        "random leaves at each exit as often as the gate does. Static dropping leaves the same blocks out for every "
        "token.",
        {
            "gate": Arm("gates", REFERENCE, LOSSY),
            **{rule: Arm("gates", REFERENCE, LOSSY, rule) for rule in rules},
        },
        "gate",
    )


def _without_gates(runs: Runs, model: str) -> dict[str, Front]:
    found = runs.alone(f"{model}/dropping")
    return {} if found is None else {"static dropping": found}


def _compared(runs: Runs, model: str, compared: Compared, fronts: Mapping[str, Front]) -> Section:
    name = f"{model}-{compared.id}"
    parts: list[Part] = front_parts(name, compared.title, fronts, looks(fronts))
    against = f"{compared.title}: against {compared.against}"
    gaps = differences(f"{name}-differences", against, fronts, compared.against, compared.at)
    table = numbers(f"{name}-numbers", f"{compared.title}: in numbers", fronts, runs.alone(f"{model}/full"))
    parts += [part for part in (table, gaps) if part is not None]
    return Section(name, f"{model}: {compared.title}", compared.text, tuple(parts))


def _gates(runs: Runs, model: str) -> Section | None:
    """All gates, teacher-forced."""
    tuned = {arm: found for arm in GATES if (found := runs.tuned(model, "gates", arm))}
    if not tuned:
        return None
    counts = [found["parameters"] for found in runs.seeds(f"{model}/train/gates").values()]
    parameters = {arm: each["gate"] for arm, each in (counts[0] if counts else {}).items()}
    shares = [float(share) for share in next(iter(next(iter(tuned.values())).values()))["points"]]
    share = shares[len(shares) // 2]
    name, seen = f"{model}-forced", looks(tuned)
    parts: list[Part | None] = [
        auroc_chart(f"{name}-auroc", "AUROC by exit", tuned, seen),
        curve_chart(f"{name}-curve", "right, of those that leave", tuned, seen),
        gate_table(f"{name}-gates", "gates, teacher-forced", tuned, parameters),
        gate_differences(
            f"{name}-differences", f"at equal leave rate: against {REFERENCE}", tuned, REFERENCE, share
        ),
        *_reliability(runs, model, name),
    ]
    text = "Every gate hears the same held-out text and is asked at every token; nothing runs free."
    return Section(
        name, f"{model}: gates, teacher-forced", text, tuple(part for part in parts if part is not None)
    )


def _reliability(runs: Runs, model: str, name: str) -> Iterator[Part]:
    for arm in (REFERENCE, "linear"):
        if seeds := runs.tuned(model, "gates", arm):
            one = seeds[min(seeds)]
            title = f"reliability of {arm}, one training (calibration error {calibration_error(one):.3f})"
            yield reliability_chart(f"{name}-reliability-{arm}", title, one)
