"""Everything a training run needs to go on as if it had never stopped: safetensors and json, nothing pickled.

    out/
      latest                     the name of the newest complete folder
      step-00000400/
        state.safetensors        parameters and optimizer moments
        run.json                 step, and the settings the run was started with

Batches are pure functions of (seed, step) and nothing else is random, so no generator's state is kept.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from offramp.errors import OfframpError, UsageError
from offramp.files import in_the_way, whole_folder, write_whole
from offramp.models.tensors import write_tensors

FORMAT = 1
STATE_FILE, RUN_FILE = FILES = ("state.safetensors", "run.json")


def save(
    out: Path, step: int, settings: Mapping[str, Any], module: nn.Module, optimizers: Sequence[Optimizer]
) -> Path:
    """Write `out/step-...`, point `latest` at it, remove the older ones. Returns the folder.

    Raises OSError where it cannot be written.
    """
    folder = out / f"step-{step:08d}"
    run = {"format": FORMAT, "step": step, "settings": dict(settings)}
    with whole_folder(folder, FILES) as fresh:
        write_tensors(_flatten(module, optimizers), fresh / STATE_FILE)
        (fresh / RUN_FILE).write_text(json.dumps(run, indent=1), encoding="utf-8")
    write_whole(out / "latest", folder.name + "\n")
    for old in out.glob("step-*"):
        if old != folder and not in_the_way(old, FILES):  # never a folder that is not a checkpoint of ours
            shutil.rmtree(old, ignore_errors=True)
    return folder


def resume(out: Path, settings: Mapping[str, Any], module: nn.Module, optimizers: Sequence[Optimizer]) -> int:
    """Load the latest checkpoint into module and optimizers and return its step; 0 when `out` holds none.

    Raises UsageError when the run in `out` has other settings, OfframpError when its files are damaged.
    """
    folder = latest(out)
    if folder is None:
        return 0
    try:
        run = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        _refuse_other_settings(out, run["settings"], settings)
        _unflatten(load_file(folder / STATE_FILE), module, optimizers)
        return int(run["step"])
    except (OSError, ValueError, KeyError, SafetensorError, RuntimeError) as error:
        raise OfframpError(
            f"the training checkpoint {folder} is damaged ({error}); remove {out} to start again"
        ) from error


def latest(out: Path) -> Path | None:
    """The newest complete checkpoint folder of `out`, if there is one."""
    pointer = out / "latest"
    if not pointer.is_file():
        return None
    return out / pointer.read_text(encoding="utf-8").strip()


def _refuse_other_settings(out: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    wanted = json.loads(json.dumps(wanted))  # as it reads after writing: tuples are lists
    changed = [
        f"{key} was {found.get(key)!r}, now {wanted.get(key)!r}"
        for key in sorted({*found, *wanted})
        if found.get(key) != wanted.get(key)
    ]
    if changed:
        raise UsageError(
            f"{out} holds a run with other settings ({'; '.join(changed)}): "
            "resume it with its own settings, or name another folder"
        )


def _flatten(module: nn.Module, optimizers: Sequence[Optimizer]) -> dict[str, Tensor]:
    """Names: "model.<parameter>" and "optimizer.<i>.<parameter number>.<moment>".

    `.clone()` because tied parameters share memory, which safetensors refuses.
    """
    tensors = {f"model.{name}": value for name, value in module.state_dict().items()}
    for i, optimizer in enumerate(optimizers):
        for number, moments in optimizer.state_dict()["state"].items():
            for name, value in moments.items():
                tensors[f"optimizer.{i}.{number}.{name}"] = torch.as_tensor(value)
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}


def _unflatten(tensors: Mapping[str, Tensor], module: nn.Module, optimizers: Sequence[Optimizer]) -> None:
    """The opposite. Hyperparameters are not stored: they come from the settings, which are the same."""
    prefix = "model."
    module.load_state_dict({n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)})
    for i, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            kind, *rest = name.split(".")
            if kind == "optimizer" and int(rest[0]) == i:
                state.setdefault(int(rest[1]), {})[rest[2]] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
