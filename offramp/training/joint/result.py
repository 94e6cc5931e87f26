"""What a joint run leaves: a checkpoint folder like the one it began with, without exits, and its recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from offramp.convert.source import LazyTensor, from_folder
from offramp.convert.write import write_folder
from offramp.errors import CheckpointError
from offramp.files import in_the_way
from offramp.models.base import Model
from offramp.models.families import family_for
from offramp.models.naming import naming_of, stored
from offramp.training.joint.config import JointConfig
from offramp.training.joint.lora import adapter_files, merge_lora

RECIPE_FILE = "recipe.json"
ADAPTER = "adapter"


def check_new(out: Path) -> Path:
    """The absolute path of a folder to write a checkpoint to. Raises CheckpointError where something is there."""
    out = out.resolve()
    if why := in_the_way(out, ()):
        raise CheckpointError(f"{out} is not replaced: {why}; name a new folder for the checkpoint")
    return out


def write_result(
    folder: Path, model: Model, config: JointConfig, out: Path, made_by: Mapping[str, Any]
) -> None:
    """Write `out`: the checkpoint in `folder` with the model's weights, in the types it had, and its tokenizer.

    Of LoRA the changes are merged, and lie in `adapter/` in peft's files too. made_by: what recipe.json says.
    Leaves the model merged.
    """
    source, family = from_folder(folder).without_exits(), family_for(model.config.model_type)
    adapter = adapter_files(model, family, config) if config.lora_rank else {}
    merge_lora(model)
    weights = stored(model, family, naming_of(family, source.tensors))
    # A tied head's copy has no weight of its own, and the old one would be another model's.
    tensors = {
        name: _as_before(weights[name], tensor) for name, tensor in source.tensors.items() if name in weights
    }
    files = dict(source.files) | {f"{ADAPTER}/{name}": file for name, file in adapter.items()}
    files[RECIPE_FILE] = json.dumps(dict(made_by), indent=1) + "\n"
    write_folder(replace(source, tensors=tensors, files=files), out)


def _as_before(weight: Tensor, before: LazyTensor) -> LazyTensor:
    """The new values in the old type."""
    return replace(before, read=partial(_read, weight, before.dtype))


def _read(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.detach().to("cpu", dtype)
