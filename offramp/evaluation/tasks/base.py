"""A task: prompts, and what an answer is worth. Three kinds, by what the model is asked for.

A plug-in is one file with one public class. It says how one row of its file becomes items (`_items.Items`), how an
item is asked and how an answer is scored; reading, few-shot examples and limits are shared.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from offramp.errors import UsageError
from offramp.registry import find

FOLDER = "offramp.evaluation.tasks"
Source = str | Path | None
"""A file, "hf" (the official data set on the hub), "hf:owner/name:config:split", or None: what the task brings."""


@dataclass(frozen=True)
class Scored:
    """A text that was given and scored token by token.

    logprobs: natural logs. greedy: whether each token was the model's own first choice. depths: blocks behind each.
    """

    logprobs: tuple[float, ...]
    greedy: bool
    depths: tuple[int, ...] = ()

    @property
    def total(self) -> float:
        """The text's logprob."""
        return sum(self.logprobs)


class Task(ABC):
    """Questions of one kind. headline: the score that stands for the task. official: a published benchmark, which a
    small model may not be able to do at all; the twins' own tasks are not."""

    headline: ClassVar[str]
    official: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def load(
        cls, source: Source = None, *, few_shot: int | None = None, limit: int | None = None, seed: int = 0
    ) -> Self:
        """The items of a source. few_shot: solved examples before each question (None: as the paper has it), drawn with
        `seed` from the source itself; they are not asked. limit: the first so many items.

        Raises DataError naming file, line and field, UsageError for what the task cannot do.
        """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def prompt(self, i: int) -> str:
        """What the model reads before it answers item i."""

    def weight(self, i: int) -> float:
        """What item i counts in the mean."""
        return 1.0


class GenerationTask(Task):
    """The model writes an answer, of at most max_tokens tokens and not past a stop string."""

    max_tokens: ClassVar[int] = 64
    stop: ClassVar[tuple[str, ...]] = ("\n\n",)

    @abstractmethod
    def score(self, i: int, answer: str) -> dict[str, float]:
        """By name, what the answer is worth."""


class ChoiceTask(Task):
    """The model says how likely each continuation is."""

    @abstractmethod
    def choices(self, i: int) -> list[str]:
        """The continuations of prompt i, with the space they begin with."""

    @abstractmethod
    def score(self, i: int, scored: Sequence[Scored]) -> dict[str, float]:
        """By name, what the choices' logprobs are worth, in the order of `choices`."""

    def guessing(self, i: int) -> float:
        """What blind guessing has in the headline, on average."""
        return 1 / len(self.choices(i))


class RollingTask(Task):
    """The model says how likely a whole text is."""

    @abstractmethod
    def text(self, i: int) -> str: ...

    @abstractmethod
    def score(self, i: int, scored: Scored) -> dict[str, float]:
        """By name, what the text's logprob is worth."""

    def prompt(self, i: int) -> str:
        return ""


def task_named(name: str) -> type[Task]:
    """The task in NAME.py. Raises UnknownName, and UsageError where a package that it scores with is missing."""
    try:
        return find(FOLDER, name, Task)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{name} is scored with {error.name}, which is not installed: pip install 'offramp[eval]'."
        ) from error
