"""A model as shapes: enough to count bytes and operations of one whose weights are not here."""

from __future__ import annotations

from pathlib import Path

import torch

from offramp.errors import CheckpointError
from offramp.models.base import Model
from offramp.models.families import family_for, model_types
from offramp.models.folder import read_config
from offramp.models.shapes import shapes_only
from offramp.models.unsupported import refuse_features


def shapes_of(folder: str | Path, dtype: torch.dtype) -> Model:
    """The model of a folder's config.json, on the meta device. Raises CheckpointError as loading it would."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(
            f"there is no folder {str(folder)!r}; shapes are read from one that holds config.json"
        )
    raw = read_config(folder)
    refuse_features(raw, model_types())
    family = family_for(raw["model_type"])
    with shapes_only():
        return family.build(family.config_from(raw)).to(dtype).eval()
