"""The options of `offramp eval`: what is asked, and how it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter, validators

from offramp.cli.options import Size, plugins
from offramp.errors import UsageError

Count = Annotated[int | None, Parameter(validator=validators.Number(gte=1))]


@Parameter(name="*", group=Group("What is asked", sort_key=3))
@dataclass(frozen=True)
class Asks:
    """The task and its questions.

    Parameters
    ----------
    source
        The task's file as its authors publish it, "hf" for the official data set, or hf:OWNER/NAME:CONFIG:SPLIT.
        [default: what the task brings; the twins' own tasks do]
    few_shot
        Solved examples before each question, drawn from the source and not asked. [default: as in the paper]
    limit
        Only the first so many questions.
    question_seed
        Draws the examples.
    max_tokens
        Most tokens of a written answer. [default: the task's own]
    harness
        Tasks of lm-evaluation-harness instead, by name: boolq,coqa. Needs offramp[harness].
    include
        A folder with task files (YAML) of your own for the harness.
    """

    task: Annotated[str | None, Parameter(help=f"One of: {plugins('evaluation.tasks')}.")] = None
    source: str | None = None
    few_shot: int | None = None
    limit: Count = None
    question_seed: int = 0
    max_tokens: Count = None
    harness: str | None = None
    include: Path | None = None

    def check(self) -> None:
        """Raises UsageError for options that do not go together."""
        if (self.task is None) == (self.harness is None):
            raise UsageError(
                f"what to ask? Give --task NAME ({plugins('evaluation.tasks')}) or --harness NAME, one of the two."
            )
        if self.include is not None and self.harness is None:
            raise UsageError("--include is for --harness: it holds task files of lm-evaluation-harness.")
        if self.harness is not None and self.source is not None:
            raise UsageError("--source is for --task; the harness finds its tasks' data itself.")


@Parameter(name="*", group=Group("How it runs", sort_key=15))
@dataclass(frozen=True)
class Runs:
    """Where answers are kept, and how many run at a time.

    Parameters
    ----------
    out
        Keeps every answer, one JSON object a line. What is in there is not asked again, so an interrupted run goes on,
        and other settings of the same model and task share the full model's answers.
    slots
        Questions running at a time. [default: as many as fit --memory, at most 16]
    memory
        What their state may take, like 2GB. [default: half of what is free]
    max_len
        Tokens of a prompt and its answer together. [default: the model's context, at most 4,096]
    tier
        exact (a token's bits depend on its own sequence only; chunks are padded) or fast.
    json
        The summary as one JSON object on stdout.
    """

    out: Path | None = None
    slots: int | None = None
    memory: Size = None
    max_len: int | None = None
    tier: Literal["exact", "fast"] = "exact"
    json: bool = False
