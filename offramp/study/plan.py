"""Which jobs a study is made of, and about how long each takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from offramp.study.arms import REFERENCE
from offramp.study.results import Job
from offramp.study.scale import Scale

LOSSY = "project"
"""What gates, bridges and policies are compared under: the paper's choice for both kinds of backbone."""


PROPAGATIONS = ("project", "defer", "copy_block", "copy_token", "skip", "verify")
PAPER_MODES = {"paper-text": ("copy_block",), "paper-code": (LOSSY, "copy_token")}
"""What deeper layers receive, as the paper's text and as its code has it."""


@dataclass(frozen=True)
class Source:
    """A model of the study. fingerprint: of its weights.   attends: whether any of its blocks does.
    millions: of parameters, which its jobs' times are taken to grow with.   device, dtype: see `engine.load`.
    """

    name: str
    fingerprint: str
    attends: bool
    millions: float
    device: str = "cpu"
    dtype: str = "f32"

    @property
    def distinct(self) -> frozenset[str]:
        """Propagations that are no other's twin here: without attention there is nothing to copy."""
        return frozenset(PROPAGATIONS if self.attends else set(PROPAGATIONS) - {"copy_block", "copy_token"})


def plan(sources: Sequence[Source], data: str, scale: Scale) -> list[Job]:
    """All jobs. data: a hash of everything that is read."""
    return [job for source in sources for job in _Planner(source, data, scale).jobs()]


@dataclass(frozen=True)
class Training:
    """Arms that are trained together. changes: of their recipes.   seconds: of one step.

    on: the job that makes the model they are trained on; "" for the model as it is.
    """

    group: str
    arms: Sequence[str]
    changes: Mapping[str, Any]
    seconds: float
    on: str = ""


def trainings(scale: Scale) -> list[Training]:
    """Of one training seed."""
    gates = {"steps": scale.steps, "tokens_per_step": scale.tokens}
    bridges = {"steps": scale.bridge_steps, "tokens_per_step": scale.bridge_tokens}
    joint = {"steps": scale.joint_gate_steps, "tokens_per_step": scale.tokens}
    size, bridge_size = scale.tokens / 4096, scale.bridge_tokens / 4096
    found = [
        Training("gates", scale.gates, gates, size * (1.7 + 0.2 * len(scale.gates))),
        Training("bridges", scale.bridges, bridges, bridge_size * (1.0 + 2.0 * len(scale.bridges))),
        Training("paper", scale.paper, {"steps": scale.paper_steps}, 0.15 + 0.06 * len(scale.paper)),
    ]
    if scale.joint:
        found.append(Training("joint", (REFERENCE,), joint, size * 1.9, "joint"))
    return [training for training in found if training.arms]


class _Planner:
    """The jobs of one model. Their names begin with the model's."""

    def __init__(self, source: Source, data: str, scale: Scale) -> None:
        self.source, self.scale = source, scale
        self.common = {
            "model": source.name,
            "fingerprint": source.fingerprint,
            "device": source.device,
            "dtype": source.dtype,
            "data": data,
        }
        self.tuning = {"texts": scale.tune_texts, "length": scale.tune_length, "shares": scale.shares}
        tokens = scale.code * scale.code_tokens + scale.answers * scale.answer_tokens
        self.run = 0.8 + tokens / 200  # seconds of all prompts under one setting; most answers end half way

    def jobs(self) -> list[Job]:
        found = self._base()
        for seed in range(self.scale.seeds):
            for training in trainings(self.scale):
                found += self._trained(training, seed)
            found += self._free(seed)
            found += self._on_policy(seed) if self.scale.on_policy else []
        return [*found, *self._policies(), self._clock()]

    def _job(
        self,
        name: str,
        kind: str,
        settings: Mapping[str, Any],
        needs: Sequence[str],
        seconds: float,
        alone: bool = False,
    ) -> Job:
        mine = self.source.name
        return Job(
            f"{mine}/{name}",
            kind,
            {**self.common, **settings},
            tuple(f"{mine}/{need}" for need in needs if need),
            seconds * self.source.millions / 4.5,
            alone,
        )

    def _base(self) -> list[Job]:
        """What every run is held against, and what needs no training but a model's own."""
        scale, run = self.scale, self.run
        scored = {**self.tuning, "policies": scale.policies}
        found = [
            self._job("full", "full", {}, [], 1 + run),
            self._job("scores", "scores", scored, ["full"], 2 + scale.tune_texts / 16),
            self._job("dropping", "dropping", {"dropped": scale.dropped}, ["full"], len(scale.dropped) * run),
        ]
        if scale.joint:
            changes = {"steps": scale.joint_steps}
            made = {"recipe": "layerskip", "arm": "", "seed": 0, "changes": changes, **self._reading()}
            found.append(self._job("joint", "recipe", made, [], 20 + 7 * scale.joint_steps))
            found.append(self._job("joint/full", "full", {}, ["joint"], 1 + run))
        return found

    def _reading(self) -> dict[str, int]:
        return {"training_tokens": self.scale.training_tokens}

    def _trained(self, training: Training, seed: int) -> list[Job]:
        """A training, and its measurement."""
        arms, group = training.arms, training.group
        settings = {"arms": arms, "seed": seed, "changes": training.changes, **self._reading()}
        name, steps = f"train/{group}/{seed}", training.changes["steps"]
        seconds = 7 + steps * training.seconds
        return [
            self._job(name, "train", settings, [training.on], seconds),
            self._tuned(group, arms, seed, training.on),
        ]

    def _tuned(self, group: str, arms: Sequence[str], seed: int, on: str = "") -> Job:
        seconds = 2 + self.scale.tune_texts / 16 * (0.6 + 0.1 * len(arms))
        needs = [f"train/{group}/{seed}", on]
        return self._job(f"tune/{group}/{seed}", "tune", {**self.tuning, "arms": arms}, needs, seconds)

    def _one(self, arm: str, group: str, propagation: str, seed: int, policy: str = "gate") -> Job:
        """A free run of one arm; a rule that has a score of its own takes its thresholds from that."""
        score = arm if policy in ("gate", "random") else policy
        settings = {
            "arm": arm,
            "propagation": propagation,
            "policy": policy,
            "score": score,
            "shares": self.scale.shares,
        }
        base = ["joint", "joint/full"] if group == "joint" else ["full"]
        scored = "" if score == arm else "scores"
        needs = [f"train/{group}/{seed}", f"tune/{group}/{seed}", *base, scored]
        name = f"free/{group}/{arm}/{propagation}/{policy}/{seed}"
        return self._job(name, "free", settings, needs, 2 + len(self.scale.shares) * self.run)

    def _free(self, seed: int) -> list[Job]:
        scale = self.scale
        wanted = [(arm, "gates", LOSSY) for arm in scale.gates]
        wanted += [(REFERENCE, "gates", name) for name in scale.propagations if name in self.source.distinct]
        wanted += [(arm, "bridges", name) for arm in scale.bridges for name in (LOSSY, "verify")]
        wanted += [(arm, "paper", name) for arm in scale.paper for name in PAPER_MODES[arm]]
        wanted += [(REFERENCE, "joint", name) for name in (LOSSY, "verify") if scale.joint]
        return [self._one(*one, seed) for one in wanted]

    def _policies(self) -> list[Job]:
        """Rules that ask no gate, through the same exits; one training is enough, for they read none of it."""
        return [self._one(REFERENCE, "gates", LOSSY, 0, policy) for policy in self.scale.policies]

    def _on_policy(self, seed: int) -> list[Job]:
        """The reference's gate, some of its steps made on what it hears in use."""
        scale, name = self.scale, "on-policy"
        changes = {
            "steps": scale.on_policy_steps,
            "text_steps": max(1, scale.steps - scale.on_policy_steps),
            "replies": scale.on_policy_replies,
            "tokens_per_step": scale.tokens,
            "propagation": LOSSY,
            "seed": seed,
        }
        settings = {"recipe": name, "arm": name, "seed": seed, "changes": changes, **self._reading()}
        seconds = 20 + 2.5 * scale.steps + scale.on_policy_replies
        train = self._job(f"train/{name}/{seed}", "recipe", settings, [], seconds)
        return [train, self._tuned(name, [name], seed), self._one(name, name, LOSSY, seed)]

    def _clock(self) -> Job:
        """Last and alone."""
        share = self.scale.shares[len(self.scale.shares) // 2]
        settings = {"arm": REFERENCE, "share": share, "prompts": self.scale.timed}
        needs = ["train/gates/0", "tune/gates/0"]
        return self._job("clock", "clock", settings, needs, 4 + self.scale.timed * 3, alone=True)
