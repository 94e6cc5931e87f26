"""What a setting's replies are worth: measured on any engine that can generate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from offramp.engine.reply import Generation
from offramp.engine.request import Request
from offramp.evaluation.degeneration import ends_in_loop
from offramp.evaluation.metrics import blocks_skipped, mean_depth, weight_reads
from offramp.evaluation.similarity import same_first_line
from offramp.zoo.showcase.settings import Setting, Task

Agreeing = Callable[[Sequence[int], Sequence[int]], int]
"""(prompt, tokens) -> how many of the tokens are the full model's choice on the prefix before them."""


class Generator(Protocol):
    """What is measured: an `Engine`, or a test's stand-in."""

    def generate(self, request: Request) -> Generation: ...


@dataclass(frozen=True)
class Trial:
    """One reply, and how many of its tokens the full model agrees with."""

    task: Task
    generation: Generation
    agreeing: int

    @property
    def right(self) -> bool | None:
        """Whether the answer is right; None where there is no right answer."""
        answer = self.task.prompt.answer
        return None if answer is None else same_first_line(self.generation.text, answer)


@dataclass(frozen=True)
class Quality:
    """A setting over all prompts. `skipped` and `reads` as in `evaluation.metrics`."""

    setting: Setting
    agreement: float
    mean_depth: float
    skipped: float
    reads: float
    identical: int
    replies: int
    right: int
    answers: int
    loops: float


def trial(engine: Generator, task: Task, request: Request, agreeing: Agreeing) -> Trial:
    """Generate one reply and judge it."""
    generation = engine.generate(request)
    return Trial(task, generation, agreeing(task.tokens, generation.tokens))


def quality(setting: Setting, trials: Sequence[Trial], full: Sequence[Trial], num_blocks: int) -> Quality:
    """Sum up a setting's trials; `full` are those at full depth, on the same prompts in the same order."""
    replies = [item.generation for item in trials]
    answered = [item.right for item in trials if item.right is not None]
    same = [mine.generation.tokens == its.generation.tokens for mine, its in zip(trials, full, strict=True)]
    return Quality(
        setting=setting,
        agreement=sum(item.agreeing for item in trials) / max(1, sum(len(reply.tokens) for reply in replies)),
        mean_depth=mean_depth(replies),
        skipped=blocks_skipped(replies, num_blocks),
        reads=weight_reads(replies, num_blocks),
        identical=sum(same),
        replies=len(trials),
        right=sum(answered),
        answers=len(answered),
        loops=sum(ends_in_loop(reply.tokens) for reply in replies) / max(1, len(replies)),
    )
