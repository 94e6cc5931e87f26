"""What every job is given, and how it gets at models, exits and prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offramp.data.documents import Documents, load_documents
from offramp.engine.engine import Engine
from offramp.engine.load import Checkpoint, load
from offramp.errors import CheckpointError
from offramp.evaluation.evaluate import Item
from offramp.evaluation.replies import Reply
from offramp.exits.base import Exit
from offramp.exits.exit_set import ExitSet
from offramp.study.inputs import items
from offramp.study.results import Found, Job, slug
from offramp.text import Text

SLOTS = 24
"""Replies that run together."""


@dataclass(frozen=True)
class Place:
    """Where a study and what it reads are, and how many threads a job has; nothing of this decides a result.

    models: by name.   training: text, or a corpus folder.   tune, prompts: see `inputs`.
    """

    study: Path
    models: Mapping[str, Path]
    training: Path
    tune: Path
    prompts: Path
    threads: int = 1


@dataclass(frozen=True)
class Context:
    """A job, its hash, what the jobs it needs found, by name, and where everything is."""

    place: Place
    job: Job
    key: str
    needed: Mapping[str, Found]

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.job.settings

    def folder(self, kind: str, name: str = "") -> Path:
        """A folder of this job alone, for weights or a run's checkpoints."""
        return self.place.study / kind / f"{slug(self.job.name)}.{self.key}" / name

    def relative(self, path: Path) -> str:
        return path.relative_to(self.place.study).as_posix()

    def checkpoint(self, arm: str | None = None) -> Checkpoint:
        """The job's model, with the exits of an arm that a job it needs has trained."""
        exits: str | Path = "none" if arm is None else self.arm_folder(arm)
        return self._load(exits)

    def exits(self, folder: Path) -> ExitSet:
        """Exits that were trained for the job's model, where and in the number format it has."""
        found = self._load(folder).exits
        assert found is not None
        return found

    def _load(self, exits: str | Path) -> Checkpoint:
        settings = self.settings
        return load(self.model_folder(), exits, device=settings["device"], dtype=settings["dtype"])

    def model_folder(self) -> Path:
        """One of the study's models, or one that a job it needs has made of it."""
        made = [found["model"] for found in self.needed.values() if "model" in found]
        return self.place.study / made[0] if made else self.place.models[self.settings["model"]]

    def arm_folder(self, arm: str) -> Path:
        [found] = [found["arms"][arm] for found in self.needed.values() if arm in found.get("arms", {})]
        return self.place.study / found

    def items(self, text: Text) -> list[Item]:
        return items(self.place.prompts, text)

    def full(self) -> list[Reply]:
        """The full model's replies, from the job that ran it."""
        [found] = [found["replies"] for found in self.needed.values() if "replies" in found]
        return [Reply.from_json(reply) for reply in found]

    def documents(self, text: Text) -> Documents:
        """To train on, in an order that the training seed decides."""
        tokens, seed = self.settings["training_tokens"], self.settings["seed"]
        return load_documents(self.place.training, text.encode, max_tokens=tokens, seed=seed)


def text_of(checkpoint: Checkpoint) -> Text:
    """Raises CheckpointError where there is none."""
    if checkpoint.text is None:
        raise CheckpointError(f"{checkpoint.folder} has no tokenizer.json, which a study needs")
    return checkpoint.text


def engine(
    checkpoint: Checkpoint,
    exits: tuple[Exit, ...],
    asked: list[Item],
    slots: int = SLOTS,
    tier: str = "exact",
) -> Engine:
    """With room for these prompts."""
    room = max(len(item.prompt.tokens) + item.prompt.max_tokens for item in asked)
    return Engine(
        checkpoint.model, exits, checkpoint.text, slots=slots, max_len=room, tier=tier, prefix_memory=0
    )
