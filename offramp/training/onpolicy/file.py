"""Tapes on the disk: one safetensors file, whole or absent, so that a stopped run need not write them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from offramp.data.documents import Ids
from offramp.errors import OfframpError
from offramp.files import replacement
from offramp.models.tensors import write_tensors
from offramp.training.onpolicy.tape import Heard, Tape, Tapes

PARTS = ("training", "held_out")


def write_tapes(tapes: Tapes, path: Path) -> None:
    """Names: "training.<tape>.tokens" and "training.<tape>.<exit>.hidden", "asked" and "full"."""
    tensors: dict[str, Tensor] = {}
    for part, items in zip(PARTS, (tapes.training, tapes.held_out), strict=True):
        for number, item in enumerate(items):
            assert isinstance(item, Tape)
            tensors[f"{part}.{number}.tokens"] = torch.tensor(item.tokens)
            for e, heard in enumerate(item.heard):
                named = {"hidden": heard.hidden_TD, "asked": heard.asked_N, "full": heard.full_ND}
                tensors |= {f"{part}.{number}.{e}.{name}": value for name, value in named.items()}
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with replacement(path) as fresh:
        write_tensors(plain, fresh)


def read_tapes(path: Path, source: str, exits: int) -> Tapes:
    """The opposite. Raises OfframpError for a damaged file."""
    try:
        tensors = load_file(path)
        training, held_out = (_part(tensors, part, exits) for part in PARTS)
        return Tapes(training, held_out, source)
    except (OSError, KeyError, SafetensorError) as error:
        raise OfframpError(
            f"the tapes {path} are damaged ({error}); remove the folder to start again"
        ) from error


def _part(tensors: Mapping[str, Tensor], part: str, exits: int) -> list[Ids]:
    count = sum(name.startswith(f"{part}.") and name.endswith(".tokens") for name in tensors)
    return [
        Tape(
            tensors[f"{part}.{number}.tokens"].tolist(),
            _heard(tensors, [f"{part}.{number}.{e}" for e in range(exits)]),
        )
        for number in range(count)
    ]


def _heard(tensors: Mapping[str, Tensor], names: Sequence[str]) -> list[Heard]:
    return [Heard(*(tensors[f"{name}.{what}"] for what in ("hidden", "asked", "full"))) for name in names]
