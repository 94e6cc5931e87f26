"""A recipe: everything that decides what a run trains, and how, as one frozen value.

`recipes/NAME.py` holds a function `recipe(model)` that makes one for a model's sizes; single fields of it can be
changed by their names. It is kept with what it made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from offramp.data.documents import Documents
from offramp.errors import UsageError
from offramp.exits.base import ExitConfig
from offramp.exits.exit_set import ExitSet, build_exits
from offramp.models.base import Model, ModelConfig
from offramp.models.shapes import shapes_only
from offramp.registry import find_function
from offramp.training.distributed import ALONE, Workers
from offramp.training.estimate import estimate
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.exits import train_exits
from offramp.training.frequency import check_draft_vocabulary, listed
from offramp.training.loop import Limits, Outcome
from offramp.training.progress import Callback, ignore

RECIPES = "offramp.training.recipes"


def silence(remark: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Work:
    """What a recipe is carried out on. folder: the model's.   out: where the result goes.   revision: what people
    call the model.   say: takes remarks on what is being done."""

    folder: Path
    model: Model
    data: Documents
    out: Path
    limits: Limits = field(default_factory=Limits)
    callback: Callback = ignore
    revision: str = ""
    workers: Workers = ALONE
    say: Callable[[str], None] = silence


@dataclass(frozen=True)
class Done:
    """How it ended, and by exit ("after8") what was measured on held-out documents; None while unfinished."""

    outcome: Outcome
    metrics: Mapping[str, Mapping[str, float | None]] | None


@dataclass(frozen=True)
class Recipe(ABC):
    """name: what users call it.   measured: what the metrics are of.   makes_model: a checkpoint, else exits."""

    measured: ClassVar[str]
    makes_model: ClassVar[bool]

    name: str

    @property
    @abstractmethod
    def seed(self) -> int:
        """The same seed gives the same result; it also says which documents are held out."""

    def changed(self, given: Mapping[str, Any]) -> Self:
        """With these fields, wherever in the recipe they are. Raises UsageError for one that it does not have."""
        if unknown := sorted(given.keys() - _names(self)):
            raise UsageError(f"the recipe {self.name} has no {unknown[0]} that could be set")
        return _changed(self, given)

    def as_json(self) -> dict[str, Any]:
        """What is printed, and kept with the result."""
        return asdict(self)

    @abstractmethod
    def check(self, model: ModelConfig) -> None:
        """Raises UsageError, before a large model is read, for what could not be trained on it."""

    @abstractmethod
    def estimate(self, work: Work) -> list[tuple[str, str]]:
        """What it would take, for people: names and values. Trains nothing that is kept."""

    @abstractmethod
    def train(self, work: Work) -> Done:
        """Carry it out; a stopped run is continued by the same call."""


@dataclass(frozen=True)
class ExitRecipe(Recipe):
    """Exits on a frozen model."""

    measured: ClassVar[str] = "gates on held-out text"
    makes_model: ClassVar[bool] = False

    exits: ExitConfig
    training: ExitTrainConfig

    @property
    def seed(self) -> int:
        return self.training.seed

    def check(self, model: ModelConfig) -> None:
        check_draft_vocabulary(self.exits.draft_vocabulary, self.training.propagation, model.vocab_size)
        with shapes_only():
            build_exits(self.exits, model.num_blocks)

    def estimate(self, work: Work) -> list[tuple[str, str]]:
        exits = build_exits(self.exits, work.model.config.num_blocks, self.training.seed)
        return estimate(work.model, exits, self.training, work.data).rows()

    def fresh_exits(self, work: Work) -> ExitSet:
        """With first weights; what drafts are chosen among is counted in the data."""
        exits = build_exits(self.exits, work.model.config.num_blocks, self.training.seed)
        return listed(exits, work.model.config, work.data)

    def train(self, work: Work) -> Done:
        outcome, info = train_exits(
            work.model,
            self.fresh_exits(work),
            work.data,
            self.training,
            work.out,
            limits=work.limits,
            callback=work.callback,
            revision=work.revision,
            recipe=self.as_json(),
            workers=work.workers,
        )
        return Done(outcome, info.metrics if info else None)


def find_recipe(name: str, model: ModelConfig) -> Recipe:
    """The recipe of that name for a model. Raises UnknownName for one that does not exist."""
    recipe: Recipe = find_function(RECIPES, name, "recipe")(model)
    return recipe


def _names(part: Any) -> set[str]:
    """The fields of a dataclass and of those in it, but a recipe's name."""
    inner = (getattr(part, item.name) for item in fields(part))
    mine = {item.name for item in fields(part)} - {"name"}
    return mine.union(*(_names(value) for value in inner if is_dataclass(value)))


def _changed(part: Any, given: Mapping[str, Any]) -> Any:
    values = {item.name: getattr(part, item.name) for item in fields(part) if item.init}
    inner = {name: _changed(value, given) for name, value in values.items() if is_dataclass(value)}
    return replace(part, **inner, **{name: given[name] for name in values.keys() & given.keys() - {"name"}})
