"""The checkpoints that come with the package, and loading them by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from offramp.engine import load as from_folder
from offramp.engine.load import Checkpoint
from offramp.errors import CheckpointError

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


def resolve(model: str | Path) -> str | Path:
    """`tiny-mamba2` is the bundled one where there is no folder of that name; other names stay."""
    is_name = Path(model).name == str(model) and not Path(model).exists()
    return folder(str(model), HOME) if is_name and (HOME / model).is_dir() else model


def load(
    model: str | Path,
    exits: str | Path | None = None,
    exits_at: Sequence[int] | None = None,
    *,
    dtype: str = "f32",
    device: str = "cpu",
    revision: str | None = None,
) -> Checkpoint:
    """`engine.load.load` for a folder, a hub id, or the name of a bundled model ("tiny-mamba2")."""
    return from_folder.load(resolve(model), exits, exits_at, dtype=dtype, device=device, revision=revision)
