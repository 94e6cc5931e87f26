"""The ways of running a twin that the demo compares, and the requests it compares them on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from offramp.engine.request import Request, Sampling
from offramp.zoo.prompts import Prompt

CODE_TOKENS, ANSWER_TOKENS = 32, 16


@dataclass(frozen=True)
class Setting:
    """exits: the set's name in the checkpoint's folder; "none" runs at full depth."""

    name: str
    exits: str
    propagation: str = "verify"
    policy: str = "gate"


FULL = Setting("full depth", "none", policy="never")
PAPER = Setting("paper: linear, project", "linear-last_block", "project")
SKIP = Setting("Mamba gate, skip", "mamba", "skip")
DEFER = Setting("Mamba gate, defer", "mamba", "defer")
VERIFY = Setting("Mamba gate, verify", "mamba", "verify")
SETTINGS = (FULL, PAPER, SKIP, DEFER, VERIFY)


@dataclass(frozen=True)
class Task:
    """A prompt with its tokens."""

    prompt: Prompt
    tokens: tuple[int, ...]

    def request(self, setting: Setting, thresholds: tuple[float, ...] = (0.5,)) -> Request:
        """Code runs on for a while; an answer ends with its line."""
        code = self.prompt.kind == "code"
        return Request(
            prompt=self.tokens,
            propagation=setting.propagation,
            policy=setting.policy,
            thresholds=thresholds,
            max_tokens=CODE_TOKENS if code else ANSWER_TOKENS,
            stop=() if code else ("\n",),
        )

    def sampled(self, setting: Setting, thresholds: tuple[float, ...], seed: int) -> Request:
        """The same, drawn at temperature 0.8."""
        return replace(self.request(setting, thresholds), sampling=Sampling(temperature=0.8, seed=seed))
