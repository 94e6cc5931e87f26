"""An exits folder: `exits.json`, readable by people, and `model.safetensors`.

Exits decide about one backbone's hidden states, so the folder names the backbone by a hash of its weights and
is refused for another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from offramp.errors import ExitsError, OfframpError
from offramp.exits.base import ExitConfig
from offramp.exits.exit_set import ExitSet, build_exits
from offramp.exits.positions import default_positions
from offramp.files import in_the_way, whole_folder

__all__ = ["ExitSet", "ExitsInfo", "build_exits", "default_positions", "load_exits", "save_exits"]

FORMAT = 1
CONFIG_FILE, WEIGHTS_FILE = FILES = ("exits.json", "model.safetensors")


@dataclass(frozen=True)
class ExitsInfo:
    """What the weights alone do not say. Everything is optional but the backbone and the training target.

    backbone: fingerprint of the weights the exits were trained on; revision: its name or commit, for people.
    label, label_k: what a gate learned to predict (see `labels`).   propagation: the mode it was trained for.
    thresholds: a suggestion, one an exit.   metrics: on held-out text, by exit ("after8").
    """

    model_type: str
    backbone: str
    label: str
    label_k: int = 1
    propagation: str = "verify"
    revision: str = ""
    thresholds: tuple[float, ...] = ()
    metrics: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT


def check_target(folder: Path) -> Path:
    """The absolute path of a folder that `save_exits` may write: a new or empty one, or one of earlier exits.

    Raises ExitsError for any other: whatever else it holds would be lost.
    """
    folder = Path(folder).resolve()
    if why := in_the_way(folder, FILES):
        raise ExitsError(f"{folder} is not an exits folder ({why}); name a new one")
    return folder


def save_exits(exits: ExitSet, info: ExitsInfo, folder: Path) -> None:
    """Write the folder, complete or not at all. Every exit's own weights: names begin with `exits.<i>.`.

    Raises ExitsError as `check_target` does.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in exits.state_dict().items()}
    text = json.dumps({"config": asdict(exits.config), "info": asdict(info)}, indent=1, allow_nan=False)
    with whole_folder(check_target(folder), FILES) as fresh:
        save_file(weights, fresh / WEIGHTS_FILE)
        (fresh / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def load_exits(
    folder: Path,
    fingerprint: str,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[ExitSet, ExitsInfo]:
    """The exits of `folder`, for the backbone with this fingerprint.

    Raises ExitsError for missing or damaged files, another backbone, unknown gates, and weights that are
    missing, left over, of a wrong shape or not numbers.
    """
    folder = Path(folder)
    config, info = _read_config(folder / CONFIG_FILE)
    if info.backbone != fingerprint:
        known = f" ({info.revision})" if info.revision else ""
        raise ExitsError(
            f"the exits in {folder} belong to another backbone: a {info.model_type} with weights "
            f"{info.backbone}{known}, not {fingerprint}; load that one, or train exits for this one with "
            "`offramp train`"
        )
    try:
        exits = build_exits(config)
    except OfframpError as error:
        raise ExitsError(f"{folder / CONFIG_FILE}: {error}") from error
    _fill(exits, folder / WEIGHTS_FILE)
    return exits.to(device=device, dtype=dtype).eval(), info


def _read_config(path: Path) -> tuple[ExitConfig, ExitsInfo]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        found = raw["info"].get("format")
        if found != FORMAT:
            raise ExitsError(f"{path} is of format {found}; this version reads format {FORMAT}")
        return _dataclass(ExitConfig, raw["config"]), _dataclass(ExitsInfo, raw["info"])
    except OSError as error:
        raise ExitsError(f"no exits in {path.parent}: cannot read {path.name} ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExitsError(f"{path} is damaged ({error}); train the exits again or copy them anew") from error


def _dataclass(kind: type[Any], raw: dict[str, Any]) -> Any:
    """A frozen dataclass from json: lists are tuples, no field is unknown."""
    unknown = sorted(set(raw) - {item.name for item in fields(kind)})
    if unknown:
        raise ValueError(f"unknown fields {unknown}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()})


def _fill(exits: ExitSet, path: Path) -> None:
    """Load the weights strictly."""
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ExitsError(f"{path} is missing or damaged ({error}); copy or train the exits again") from error
    wanted = exits.state_dict()
    for name in sorted({*wanted, *found}):
        if problem := _problem(wanted.get(name), found.get(name)):
            raise ExitsError(f"{path}: {name} {problem}; the file does not fit its {CONFIG_FILE}")
    exits.load_state_dict(found)


def _problem(wanted: Tensor | None, found: Tensor | None) -> str:
    """What is wrong with one tensor; "" if nothing."""
    if found is None:
        return "is missing"
    if wanted is None:
        return "is not part of these exits"
    if found.shape != wanted.shape:
        return f"has shape {list(found.shape)}, not {list(wanted.shape)}"
    if not found.is_floating_point():
        return f"has type {found.dtype}, not a floating one"
    return "" if bool(torch.isfinite(found).all()) else "holds values that are not finite numbers"
