"""A twin made ready for the demo: its exit sets, its engines, the prompts as its tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from offramp.engine.engine import Engine
from offramp.engine.load import Checkpoint, load
from offramp.errors import CheckpointError
from offramp.evaluation.agreement import agreeing
from offramp.zoo.prompts import Prompt
from offramp.zoo.showcase.quality import Generator
from offramp.zoo.showcase.settings import CODE_TOKENS, FULL, SETTINGS, Task


class Stage:
    """Loads the twin's checkpoint once for every exit set that the settings name."""

    def __init__(
        self, twin: str, folder: Path, prompts: Sequence[Prompt], dtype: str = "f32", device: str = "cpu"
    ) -> None:
        self.twin = twin
        sets = dict.fromkeys(setting.exits for setting in SETTINGS)
        self.checkpoints = {name: load(folder, name, dtype=dtype, device=device) for name in sets}
        self.full = self.checkpoints[FULL.exits]
        self.tasks = [Task(prompt, _tokens(self.full, prompt.prompt)) for prompt in prompts]
        self.thresholds = {name: _suggested(found) for name, found in self.checkpoints.items()}

    @property
    def num_blocks(self) -> int:
        return self.full.model.config.num_blocks

    @property
    def depths(self) -> tuple[int, ...]:
        """Where any of the sets has an exit."""
        sets = [found.exits.after for found in self.checkpoints.values() if found.exits is not None]
        return tuple(sorted({after for one in sets for after in one}))

    @property
    def code(self) -> list[Task]:
        """The prompts continued for long enough to be timed: an answer is over in a few tokens."""
        return [task for task in self.tasks if task.prompt.kind == "code"]

    def engines(self, tier: str) -> Mapping[str, Generator]:
        """An engine for each exit set."""
        room = max(len(task.tokens) for task in self.tasks) + CODE_TOKENS
        return {
            name: Engine(found.model, tuple(found.exits or ()), found.text, max_len=room, tier=tier)
            for name, found in self.checkpoints.items()
        }

    def agreeing(self, prompt: Sequence[int], tokens: Sequence[int]) -> int:
        """How many of the tokens are the full model's choice; see `evaluation.agreement`."""
        return agreeing(self.full.model, prompt, tokens)


def _tokens(checkpoint: Checkpoint, prompt: str) -> tuple[int, ...]:
    if checkpoint.text is None:
        raise CheckpointError(f"{checkpoint.folder} has no tokenizer.json, which the demo needs.")
    return tuple(checkpoint.text.encode(prompt))


def _suggested(checkpoint: Checkpoint) -> tuple[float, ...]:
    """The thresholds that came with the exits."""
    return (checkpoint.info.thresholds if checkpoint.info else ()) or (0.5,)
