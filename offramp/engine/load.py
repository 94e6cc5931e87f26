"""From a folder or hub id to everything an engine needs: model, exits, tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from offramp.errors import ExitsError, UsageError
from offramp.exits.store import ExitSet, ExitsInfo, default_positions, load_exits
from offramp.exits.untrained import untrained_exits
from offramp.files import read_text
from offramp.models.base import Model
from offramp.models.checkpoint import load_model, local_folder
from offramp.models.quantised import Bits
from offramp.registry import unknown
from offramp.sharing.hub import fetch_exits, is_hub_id
from offramp.text import Text

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
"""Of weights, and of what is computed with them."""
QUANTISED = {bits.value: bits for bits in Bits}
"""Of matrices; everything else is then f32."""
DEVICES = ("cpu", "cuda", "auto")
NAME_BYTES = 1 << 10
"""Of the file DEFAULT, which holds the name of a set."""
SHARED = 200 << 20
"""Bytes of weights from which several threads are worth their while."""
UNTRAINED = "untrained"
"""Given for exits: exits without gates, for models trained to leave early by their own head (LayerSkip)."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model with the exits chosen for it (None: full depth) and its tokenizer (None: it has none).

    info is what training left beside the exits; None for untrained ones. exits_folder: where they were found, and
    where their certificates are.
    """

    folder: Path
    model: Model
    exits: ExitSet | None
    info: ExitsInfo | None
    text: Text | None
    exits_folder: Path | None = None


def load(
    path: str | Path,
    exits: str | Path | None = None,
    exits_at: Sequence[int] | None = None,
    *,
    dtype: str = "f32",
    device: str = "cpu",
    revision: str | None = None,
) -> Checkpoint:
    """Load a Hugging Face checkpoint and its exits.

    exits: the name of a set in the checkpoint's `exits/` folder, a folder, a hub id (`owner/name`, or with a revision
    `owner/name@main`), "none", "untrained" (exits without gates, for policies that ask none), or None: the
    checkpoint's own default set if it has any. exits_at: keep only the
    exits after these blocks; untrained ones sit there (default: 1/4 to 7/8 of the depth). dtype: f32 or bf16; int8 or
    int4 quantises weights, the exits' too, and runs on the CPU. A folder of quantised weights is loaded as it is.
    device: cpu, cuda or auto. Raises CheckpointError, ExitsError, UsageError.
    """
    wanted, torch_device = dtype_named(dtype), device_named(device)
    _refuse_quantised_elsewhere(dtype, torch_device)
    folder = local_folder(path, revision=revision)
    floats = wanted if isinstance(wanted, torch.dtype) else torch.float32
    with _threads_for(folder):
        model = load_model(folder, dtype=wanted, device=torch_device)
        exit_set, info = exits_for(model, folder, exits, exits_at, floats, torch_device)
    text = Text.load(folder) if (folder / "tokenizer.json").is_file() else None
    found = find_exits(folder, exits) if info is not None else None
    return Checkpoint(folder, model, exit_set, info, text, found)


@contextmanager
def _threads_for(folder: Path) -> Iterator[None]:
    """One thread of torch's in the block where the checkpoint is small. More would gain nothing there, and beside
    another busy process they wait for each other at every tensor."""
    size, before = sum(file.stat().st_size for file in folder.glob("*.safetensors")), torch.get_num_threads()
    torch.set_num_threads(1 if size < SHARED else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def exits_for(
    model: Model,
    folder: Path,
    wanted: str | Path | None,
    after: Sequence[int] | None,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[ExitSet | None, ExitsInfo | None]:
    """The exits meant by `wanted` and `after`, and what training left beside them."""
    if wanted == UNTRAINED:
        blocks = model.config.num_blocks
        return untrained_exits(after or default_positions(blocks), blocks, model.config.hidden_size), None
    found = find_exits(folder, wanted)
    if found is not None:
        exits, info = load_exits(found, model, dtype=dtype, device=device)
        return _select(exits, info, after) if after else (exits, info)
    if after:
        raise UsageError(
            f"{folder} has no exits to select from; train them with `offramp train`, or name exits untrained "
            "(--exits untrained) and a policy that asks no gate."
        )
    return None, None


def _select(exits: ExitSet, info: ExitsInfo, after: Sequence[int]) -> tuple[ExitSet, ExitsInfo]:
    """Some of the exits, and the thresholds suggested for them."""
    suggested = zip(exits.after, info.thresholds, strict=False)
    return exits.select(after), replace(info, thresholds=tuple(t for at, t in suggested if at in after))


def find_exits(folder: Path, wanted: str | Path | None) -> Path | None:
    """The exits folder meant by `wanted`; None when there is none or none is wanted.

    Local folders win; a hub id `owner/name` or `owner/name@revision` is fetched where no path of that name exists.
    Raises ExitsError when it is named and not there.
    """
    if wanted == "none":
        return None
    if wanted is None:
        return default_exits(folder)
    for candidate in (folder / "exits" / str(wanted), Path(wanted)):
        if (candidate / "exits.json").is_file():
            return candidate
    if is_hub_id(str(wanted)) and not Path(wanted).exists():
        return fetch_exits(str(wanted))
    raise ExitsError(
        unknown("exits", str(wanted), [*exits_of(folder), "none", UNTRAINED])
        + " Or give a folder that holds exits.json, or a hub id owner/name."
    )


def exits_of(folder: Path) -> list[str]:
    """Names of the exit sets in a checkpoint's `exits/` folder."""
    return sorted(file.parent.name for file in (folder / "exits").glob("*/exits.json"))


def default_exits(folder: Path) -> Path | None:
    """`exits/` itself where it is a set; else the set its file DEFAULT names, else the only one."""
    root = folder / "exits"
    if (root / "exits.json").is_file():
        return root
    names = exits_of(folder)
    chosen = root / "DEFAULT"
    if chosen.is_file():
        name = read_text(chosen, NAME_BYTES, ExitsError).strip()
        if name not in names:
            raise ExitsError(f"{chosen} does not name a set beside it: {unknown('exits', name, names)}")
        return root / name
    return root / names[0] if len(names) == 1 else None


def dtype_named(name: str) -> torch.dtype | Bits:
    """f32, bf16, int8 or int4. Raises UsageError for another word."""
    known: dict[str, torch.dtype | Bits] = {**DTYPES, **QUANTISED}
    if name not in known:
        raise UsageError(unknown("dtype", name, known))
    return known[name]


def _refuse_quantised_elsewhere(name: str, device: torch.device) -> None:
    if name in QUANTISED and device.type != "cpu":
        raise UsageError(
            f"dtype {name} runs on the CPU only: use --device cpu, or bf16 on {device.type} (half of f32's memory)."
        )


def device_named(name: str) -> torch.device:
    """cpu, cuda or auto (cuda where there is one). Raises UsageError for cuda on a machine without."""
    if name not in DEVICES:
        raise UsageError(unknown("device", name, DEVICES))
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda: no CUDA device is available here; use --device cpu or auto.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
