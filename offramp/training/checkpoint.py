"""Everything a training run needs to go on as if it had never stopped: safetensors and json, nothing pickled.

    out/
      latest                     the name of the newest complete folder
      step-00000400/
        state.safetensors        parameters and optimizer moments
        run.json                 step, settings, optimizer counters, and the sha256 of state.safetensors
      step-00000380/             the one before it, for the day the newest is damaged

A folder gets its name when all in it is on the disk, `latest` moves after that, old ones go last: at every moment
there is a complete checkpoint. Batches and random numbers are pure functions of (seed, step), so the step is the
data cursor and no generator's state is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from offramp.errors import CheckpointError, OfframpError, UsageError
from offramp.files import (
    clear_stale,
    in_the_way,
    read_json,
    read_text,
    remove_folder,
    whole_folder,
    write_whole,
)
from offramp.models.tensors import write_tensors

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

FORMAT = 2
STATE_FILE, RUN_FILE = FILES = ("state.safetensors", "run.json")
RUN_LIMIT = 16 << 20  # bytes of run.json
POINTER, POINTER_LIMIT = "latest", 4096


@dataclass(frozen=True)
class Resumed:
    """Where a run goes on. damaged: newer checkpoints that could not be used, of which people should hear."""

    step: int
    damaged: tuple[Path, ...] = ()


@contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Within the block no other process works in `out`; what killed ones left there is cleared away.

    Raises UsageError where another one does. Without locks (Windows, some network disks) nothing is checked.
    """
    out.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(out, os.O_RDONLY)
    try:
        _lock(descriptor, out)
        clear_stale(out)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, out: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            f"another process is working in {out}: let it end, or name another folder for this run"
        ) from None
    except OSError:  # a file system without locks
        return


def save(
    out: Path, step: int, settings: Mapping[str, Any], module: nn.Module, optimizers: Sequence[Optimizer]
) -> Path:
    """Write `out/step-...`, point `latest` at it, keep the one before, remove the others. Returns the folder.

    Raises OSError where it cannot be written: then the earlier ones are as they were.
    """
    folder = out / f"step-{step:08d}"
    if _is_part(folder):
        remove_folder(folder)
    with whole_folder(folder, FILES) as fresh:
        write_tensors(_flatten(module, optimizers), fresh / STATE_FILE)
        run = {
            "format": FORMAT,
            "step": step,
            "settings": dict(settings),
            "counters": [[_counters(group) for group in each.param_groups] for each in optimizers],
            "sha256": _sha256(fresh / STATE_FILE),
        }
        (fresh / RUN_FILE).write_text(json.dumps(run, indent=1), encoding="utf-8")
    write_whole(out / POINTER, folder.name + "\n")
    others = [other for other in _complete(out) if other != folder]
    earlier = [other for other in others if other.name < folder.name]
    for other in others:
        if other not in earlier[:1]:
            remove_folder(other)
    return folder


def resume(
    out: Path, settings: Mapping[str, Any], module: nn.Module, optimizers: Sequence[Optimizer]
) -> Resumed:
    """Load the newest sound checkpoint into module and optimizers; step 0 when `out` holds none.

    Raises UsageError when the run in `out` has other settings, OfframpError when all its files are damaged.
    """
    damaged: list[Path] = []
    problem = ""
    for folder in _newest_first(out):
        try:
            run = _read_run(folder)
        except CheckpointError as error:
            problem = problem or f"the training checkpoint {folder} is damaged ({error})"
            damaged.append(folder)
            continue
        _refuse_other_settings(out, run["settings"], settings)
        _load(folder, run, module, optimizers)
        return Resumed(int(run["step"]), tuple(damaged))
    if damaged:
        raise OfframpError(f"{problem}; remove {out} to start again")
    return Resumed(0)


def latest(out: Path) -> Path | None:
    """The newest complete checkpoint folder of `out`, if there is one."""
    return next(iter(_newest_first(out)), None)


def discard(out: Path) -> None:
    """Remove a run that has served, in one step: a process killed meanwhile leaves all of it or nothing."""
    clear_stale(out.parent, out.name)
    remove_folder(out)


def _newest_first(out: Path) -> list[Path]:
    """The complete folders, the one that `latest` names first."""
    found = _complete(out)
    if not (out / POINTER).is_file():
        return found
    try:
        named = read_text(out / POINTER, POINTER_LIMIT, OfframpError).strip()
    except OfframpError:  # damaged: no more than lost
        return found
    return sorted(found, key=lambda folder: folder.name != named)


def _complete(out: Path) -> list[Path]:
    """Newest first; never a folder that is not a checkpoint of ours."""
    folders = (path for path in out.glob("step-*") if path.is_dir() and any(path.iterdir()))
    return sorted((path for path in folders if not in_the_way(path, FILES)), reverse=True)


def _is_part(folder: Path) -> bool:
    """Whether it is what is left of a checkpoint that lost a file."""
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return bool(found) and found < set(FILES)


def _read_run(folder: Path) -> dict[str, Any]:
    """run.json of a sound checkpoint. Raises CheckpointError for a damaged one, OfframpError for another format."""
    run = read_json(folder / RUN_FILE, RUN_LIMIT, CheckpointError)
    if missing := {"format", "step", "settings"} - run.keys():
        raise CheckpointError(f"{RUN_FILE} lacks {', '.join(sorted(missing))}")
    if run["format"] != FORMAT:
        raise OfframpError(
            f"{folder} is a training checkpoint of format {run['format']}; this version reads format {FORMAT}: "
            "finish the run with the version that began it, or remove it to start again"
        )
    step = run["step"]
    if not isinstance(step, int) or step < 0 or not isinstance(run["settings"], dict):
        raise CheckpointError(f"{RUN_FILE} is not what was written")
    if _sha256(folder / STATE_FILE) != run.get("sha256"):
        raise CheckpointError(f"{STATE_FILE} is not what was written")
    return run


def _load(folder: Path, run: Mapping[str, Any], module: nn.Module, optimizers: Sequence[Optimizer]) -> None:
    try:
        _unflatten(load_file(folder / STATE_FILE), run["counters"], module, optimizers)
    except (LookupError, TypeError, ValueError, AttributeError, SafetensorError, RuntimeError) as error:
        raise OfframpError(
            f"the training checkpoint {folder} does not fit this run ({error}); remove it to start again"
        ) from error


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


def _counters(group: Mapping[str, Any]) -> dict[str, float]:
    """A parameter group's numbers: most come from the settings, but schedule-free optimizers count in some."""
    return {name: value for name, value in group.items() if isinstance(value, (int, float))}


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


def _unflatten(
    tensors: Mapping[str, Tensor],
    counters: Sequence[Sequence[Mapping[str, float]]],
    module: nn.Module,
    optimizers: Sequence[Optimizer],
) -> None:
    """The opposite."""
    prefix = "model."
    module.load_state_dict({n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)})
    for i, (optimizer, counted) in enumerate(zip(optimizers, counters, strict=True)):
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            kind, *rest = name.split(".")
            if kind == "optimizer" and int(rest[0]) == i:
                state.setdefault(int(rest[1]), {})[rest[2]] = value
        groups = optimizer.state_dict()["param_groups"]
        if [_counters(group).keys() for group in groups] != [_counters(group).keys() for group in counted]:
            raise ValueError("its optimizer counts other things")
        groups = [group | dict(numbers) for group, numbers in zip(groups, counted, strict=True)]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        _check_shapes(optimizer)


def _check_shapes(optimizer: Optimizer) -> None:
    """Raises ValueError for moments of another shape than their parameter's, which `load_state_dict` takes."""
    for parameter, moments in optimizer.state.items():
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
                raise ValueError(f"{name} has the shape {list(value.shape)}, not {list(parameter.shape)}")


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error.strerror}") from error
