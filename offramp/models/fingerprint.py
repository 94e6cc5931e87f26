"""A short name for a model's weights, the same in whatever precision they were loaded."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from offramp.models.base import Model

if TYPE_CHECKING:
    from hashlib import _Hash

SAMPLES = 64  # values read of each parameter
INCIDENTAL = ("context_length", "bos_token_id", "eos_token_ids")


def fingerprint(model: Model) -> str:
    """sha256 (hex) of the config's essential fields and a sample of every parameter, rounded to bfloat16."""
    fields = dataclasses.asdict(model.config)
    # A field a later version adds has a default: while it has that value, older fingerprints stay true.
    news = {field.name: field.default for field in dataclasses.fields(model.config)}
    essential = {
        name: value for name, value in fields.items() if name not in INCIDENTAL and value != news[name]
    }
    digest = hashlib.sha256(json.dumps(essential, sort_keys=True).encode())
    for name, weight in sorted(model.named_parameters()):
        digest.update(f"{name} {list(weight.shape)} ".encode())
        digest.update(_sample(weight.detach()))
    return digest.hexdigest()


def weights_digest(model: Model) -> str:
    """sha256 (hex) that differs for other weights, be it in a single bit, and for other tokens that end a reply.

    Reads all of the model: seconds for every few gigabytes, where `fingerprint` takes none.
    """
    digest = hashlib.sha256(f"{fingerprint(model)} {sorted(model.config.eos_token_ids)}\n".encode())
    add_weights(digest, model)
    return digest.hexdigest()


def add_weights(digest: _Hash, module: nn.Module) -> None:
    """Every byte of a module's weights, with their names, formats and shapes."""
    for name, weight in module.state_dict().items():
        digest.update(f"{name} {weight.dtype} {list(weight.shape)}\n".encode())
        digest.update(weight.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _sample(weight: Tensor) -> bytes:
    flat = weight.flatten()
    values = flat[:: -(-len(flat) // SAMPLES)].to("cpu", torch.bfloat16).contiguous()
    return bytes(values.view(torch.uint8).tolist())
