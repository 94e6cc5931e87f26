"""What a caller asks for, what it gets, and the ends of a row (design 1, row state)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .policies import Never, Policy
from .sampling import Sampling

RUN_LIMIT = 16
"""A chunk is at most run_max + 1 tokens, and run_max at most 15."""


class Emitted(NamedTuple):
    """One committed token; `exit` is the segment that chose it (in verify always the last)."""

    token: int
    logprob: float
    exit: int


@dataclass
class Stats:
    """What a row has cost."""

    left: int = 0  # tokens that left early
    deep: int = 0  # passes of the last segment
    rejected: int = 0  # judgements that found a wrong draft
    cut: int = 0  # judgements that an end cut short


@dataclass(frozen=True)
class Request:
    prompt: Sequence[int]
    propagation: str = "verify"
    policy: Policy = field(default_factory=Never)
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int = 16
    run_max: int = 8
    stop: Callable[[list[int]], bool] | None = None  # asked about the generated tokens after each of them
    eos: frozenset[int] = frozenset()
    context: int = 48  # most tokens a row may have, prompt included
    cell: int = 4  # the prompt's grid

    @property
    def most_tokens(self) -> int:
        return min(len(self.prompt) + self.max_tokens, self.context)

    def ending(self, tokens: Sequence[int]) -> str | None:
        """Why a row whose newest committed token is tokens[-1] ends there, if it does."""
        generated = list(tokens[len(self.prompt) :])
        if generated[-1] in self.eos:
            return "eos"
        if self.stop is not None and self.stop(generated):
            return "stop"
        if len(generated) >= self.max_tokens:
            return "max_tokens"
        return "context" if len(tokens) >= self.context else None


def ends_with(sequence: Sequence[int]) -> Callable[[list[int]], bool]:
    """The stop rule "the generated tokens end with this sequence"."""
    return lambda generated: generated[-len(sequence) :] == list(sequence)
