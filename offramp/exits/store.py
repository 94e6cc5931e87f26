"""An exits folder: `exits.json`, readable by people, and `model.safetensors`.

Exits decide about one backbone's hidden states, so the folder names the backbone by a hash of its weights and
is refused for another.
"""

from __future__ import annotations

import json
import reprlib
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from offramp.errors import ExitsError, UsageError
from offramp.exits.base import BridgeConfig, ExitConfig
from offramp.exits.certificates import forget_certificates, lie_beside
from offramp.exits.exit_set import ExitSet, build_exits
from offramp.exits.info import FORMAT, ExitsInfo
from offramp.exits.positions import default_positions
from offramp.exits.short_list import are_ids
from offramp.exits.strict import dataclass_from
from offramp.files import SMALL, in_the_way, read_json, whole_folder
from offramp.models.base import Model
from offramp.models.fingerprint import fingerprint
from offramp.models.quantised import bits_of, quantise_weights
from offramp.models.shapes import shapes_only
from offramp.models.tensors import all_finite, write_tensors

__all__ = [
    "ExitSet",
    "ExitsInfo",
    "build_exits",
    "check_target",
    "default_positions",
    "load_exits",
    "read_exits",
    "save_exits",
]

CONFIG_FILE, WEIGHTS_FILE = FILES = ("exits.json", "model.safetensors")
CARD_FILE = "README.md"
"""What people write beside them, or the hub shows of them: neither read here nor lost."""


def check_target(folder: Path) -> Path:
    """The absolute path of a folder that `save_exits` may write: a new or empty one, or one of earlier exits.

    Raises ExitsError for any other: whatever else it holds would be lost.
    """
    folder = Path(folder).resolve()
    if not lie_beside(folder, FILES, CARD_FILE) and (why := in_the_way(folder, FILES, (CARD_FILE,))):
        raise ExitsError(f"{folder} is not an exits folder ({why}); name a new one")
    return folder


def save_exits(exits: ExitSet, info: ExitsInfo, folder: Path) -> None:
    """Write the folder, complete or not at all. Every exit's own weights: names begin with `exits.<i>.`.

    Certificates of exits that were there before are gone with them: they speak of other weights.
    Raises ExitsError as `check_target` does, OSError where it cannot be written.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in exits.state_dict().items()}
    text = json.dumps({"config": asdict(exits.config), "info": asdict(info)}, indent=1, allow_nan=False)
    forget_certificates(target := check_target(folder))
    with whole_folder(target, FILES, (CARD_FILE,)) as fresh:
        write_tensors(weights, fresh / WEIGHTS_FILE)
        (fresh / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def load_exits(
    folder: Path,
    model: Model,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[ExitSet, ExitsInfo]:
    """The exits of `folder`, which were trained on `model`, or on the weights that its quantised ones were made of:
    then theirs are quantised too.

    Raises ExitsError for missing or damaged files, another backbone, exits that could not sit in this one,
    unknown gates, and weights that are missing, left over, of a wrong shape or not numbers.
    """
    path = Path(folder) / CONFIG_FILE
    config, info = _read_config(path)
    _refuse_another_backbone(path, config, info, model)
    exits = _exits(path, config, model.config.num_blocks, dtype)
    _refuse_unknown_tokens(path.with_name(WEIGHTS_FILE), exits, model.config.vocab_size)
    if bits := bits_of(model):
        quantise_weights(exits, bits)
    return exits.to(device).eval(), info


def read_exits(folder: Path) -> tuple[ExitSet, ExitsInfo]:
    """The exits of `folder` by themselves, whatever model they belong to. Raises ExitsError as `load_exits` does."""
    path = Path(folder) / CONFIG_FILE
    config, info = _read_config(path)
    return _exits(path, config, None, torch.float32), info


def _exits(path: Path, config: ExitConfig, num_blocks: int | None, dtype: torch.dtype) -> ExitSet:
    """The exits that `config` describes, with the weights beside it."""
    try:
        with shapes_only():
            exits = build_exits(config, num_blocks)
    except UsageError as error:
        raise ExitsError(f"{path}: {error}") from error
    _fill(exits, path.with_name(WEIGHTS_FILE), dtype)
    return exits


def _read_config(path: Path) -> tuple[ExitConfig, ExitsInfo]:
    raw = read_json(path, SMALL, ExitsError)
    config, info = raw.get("config"), raw.get("info")
    if not isinstance(config, dict) or not isinstance(info, dict):
        raise ExitsError(f"{path} is damaged: it must hold the objects config and info")
    if info.get("format") != FORMAT:
        raise ExitsError(
            f"{path} is of format {reprlib.repr(info.get('format'))}; this version reads format {FORMAT}"
        )
    try:
        if isinstance(bridge := config.get("bridge_config"), dict):  # exits of the first releases have none
            config = config | {"bridge_config": dataclass_from(BridgeConfig, bridge)}
        return dataclass_from(ExitConfig, config), dataclass_from(ExitsInfo, info)
    except UsageError as error:
        raise ExitsError(f"{path} is damaged: {error}; train the exits again or copy them anew") from error


def _refuse_another_backbone(path: Path, config: ExitConfig, info: ExitsInfo, model: Model) -> None:
    backbone, width = fingerprint(model), model.config.hidden_size
    if info.backbone not in (backbone, model.origin):
        known = f" ({info.revision})" if info.revision else ""
        raise ExitsError(
            f"the exits in {path.parent} belong to another backbone: a {info.model_type} with weights "
            f"{info.backbone}{known}, not {backbone}; load that one, or train exits for this one with "
            "`offramp train`"
        )
    if config.hidden_size != width:
        raise ExitsError(f"{path}: hidden_size is {config.hidden_size}, but the model's is {width}")
    if info.thresholds and len(info.thresholds) != len(config.after):
        raise ExitsError(f"{path} suggests {len(info.thresholds)} thresholds for {len(config.after)} exits")


def _refuse_unknown_tokens(path: Path, exits: ExitSet, vocabulary: int) -> None:
    largest = max((int(item.short_list.ids[-1]) for item in exits if item.short_list is not None), default=0)
    if largest >= vocabulary:
        raise ExitsError(f"{path} drafts the token {largest}, but the model knows {vocabulary} only")


def _fill(exits: ExitSet, path: Path, dtype: torch.dtype) -> None:
    """Load the weights strictly, in the type that is wanted."""
    if not path.is_file():
        raise ExitsError(f"{path} is missing; copy or train the exits again")
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ExitsError(f"{path} is damaged ({error}); copy or train the exits again") from error
    wanted = exits.state_dict()
    for name in sorted({*wanted, *found}):
        if problem := _problem(wanted.get(name), found.get(name), dtype):
            raise ExitsError(f"{path}: {name} {problem}; the file does not fit its {CONFIG_FILE}")
    cast = {name: value.to(dtype) if value.is_floating_point() else value for name, value in found.items()}
    exits.load_state_dict(cast, assign=True)


def _problem(wanted: Tensor | None, found: Tensor | None, dtype: torch.dtype) -> str:
    """What is wrong with one tensor; "" if nothing."""
    if found is None:
        return "is missing"
    if wanted is None:
        return "is not part of these exits"
    if found.shape != wanted.shape:
        return f"has shape {list(found.shape)}, not {list(wanted.shape)}"
    if not wanted.is_floating_point():
        return "" if are_ids(found) else "does not hold token ids in ascending order"
    if not found.is_floating_point():
        return f"has type {found.dtype}, not a floating one"
    return "" if all_finite(found.to(dtype)) else f"holds values that are not finite in {dtype}"
