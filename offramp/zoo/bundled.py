"""The checkpoints that come with the package."""

from __future__ import annotations

from pathlib import Path

from offramp.errors import CheckpointError
from offramp.zoo.twins import TWINS

HOME = Path(__file__).with_name("checkpoints")


def folder(twin: str, home: Path = HOME) -> Path:
    """A bundled twin's checkpoint. Raises CheckpointError where this installation has none."""
    found = home / twin
    if not (found / "config.json").is_file():
        raise CheckpointError(
            f"there is no checkpoint of {twin} in {home}; `offramp pretrain {twin} --corpus DIR --out DIR` "
            "makes one."
        )
    return found


def resolve(model: str) -> str | Path:
    """`tiny-mamba2` is the bundled one where there is no folder of that name; other names stay."""
    return folder(model) if model in TWINS and not Path(model).exists() else model
