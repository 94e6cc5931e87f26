"""What tasks made of a file's rows share: reading, few-shot examples, limits, the prompt."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Generic, Self, TypeVar

from offramp.data.hub import PREFIX
from offramp.errors import UsageError
from offramp.evaluation.tasks._rows import Row, read_rows
from offramp.evaluation.tasks.base import Source, Task

Item = TypeVar("Item")
MOST_SHOTS = 64
"""Solved examples before a question."""


class Items(Task, Generic[Item]):
    """A task over items of its own kind.

    shots: examples where nobody says how many. hub: the official data set, "owner/name:config:split". own: the file
    that comes with the package. columns: of a .tsv file, where the task has such. preface: what stands before every
    question.
    """

    shots: ClassVar[int] = 0
    hub: ClassVar[str] = ""
    own: ClassVar[Path | None] = None
    columns: ClassVar[tuple[str, ...]] = ()

    def __init__(self, items: Sequence[Item], examples: Sequence[Item] = ()) -> None:
        self.items = list(items)
        self.preface = "".join(f"{self.question(item)}{self.answer(item)}\n\n" for item in examples)

    @classmethod
    def load(
        cls, source: Source = None, *, few_shot: int | None = None, limit: int | None = None, seed: int = 0
    ) -> Self:
        if limit is not None and limit < 1:
            raise UsageError(f"limit is {limit}; it must be a count >= 1.")
        shots = cls.shots if few_shot is None else few_shot
        if not 0 <= shots <= MOST_SHOTS:
            raise UsageError(f"few_shot is {shots}; it must be between 0 and {MOST_SHOTS}.")
        place = cls.place(source)
        rows = read_rows(place, cls.columns)
        items = [item for row in rows for item in cls.parse(row)]
        if len(items) <= shots:
            raise UsageError(f"{place} has {len(items)} items: {shots} as examples leave nothing to ask.")
        drawn = set(random.Random(f"few-shot {seed}").sample(range(len(items)), shots))
        examples = [items[i] for i in sorted(drawn)]
        return cls([item for i, item in enumerate(items) if i not in drawn][:limit], examples)

    @classmethod
    def place(cls, source: Source) -> str | Path:
        """Where the rows are. Raises UsageError where nothing is given and the task brings nothing."""
        if source is None and cls.own is not None:
            return cls.own
        if source is None or (str(source) == "hf" and not cls.hub):
            official = f' or "hf" for {cls.hub.split(":")[0]} from the hub' if cls.hub else ""
            name = cls.__module__.rpartition(".")[2]
            raise UsageError(f"{name} needs a source: a file{official} (`--source` on the command line).")
        return f"{PREFIX}{cls.hub}" if str(source) == "hf" else source

    @classmethod
    @abstractmethod
    def parse(cls, row: Row) -> Iterator[Item]:
        """The items of one row. Raises DataError naming the field that is not as it must be."""

    @abstractmethod
    def question(self, item: Item) -> str:
        """What asks for this item's answer."""

    @abstractmethod
    def answer(self, item: Item) -> str:
        """What follows the question where the item is an example, with the space it begins with."""

    def __len__(self) -> int:
        return len(self.items)

    def prompt(self, i: int) -> str:
        return self.preface + self.question(self.items[i])
