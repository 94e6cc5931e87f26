"""A short name for a model's weights, the same in whatever precision they were loaded."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from offramp.models.base import Model, ModelConfig
from offramp.models.quantised import plain

if TYPE_CHECKING:
    from hashlib import _Hash

SAMPLES = 64  # values read of each parameter
INCIDENTAL = ("context_length", "bos_token_id", "eos_token_ids")


def fingerprint(model: Model) -> str:
    """sha256 (hex) of the config's essential fields and a sample of every parameter, rounded to bfloat16.

    Quantised weights are others than those they were made of, whose fingerprint `model.origin` is.
    """
    return fingerprint_of(model.config, plain(dict(model.named_parameters())).items())


def fingerprint_of(config: ModelConfig, parameters: Iterable[tuple[str, Tensor]]) -> str:
    """The same of parameters by name, which are asked for one at a time."""
    fields = dataclasses.asdict(config)
    # A field a later version adds has a default: while it has that value, older fingerprints stay true.
    news = {field.name: field.default for field in dataclasses.fields(config)}
    essential = {
        name: value for name, value in fields.items() if name not in INCIDENTAL and value != news[name]
    }
    digest = hashlib.sha256(json.dumps(essential, sort_keys=True).encode())
    samples = {name: (list(weight.shape), _sample(weight.detach())) for name, weight in parameters}
    for name, (shape, sample) in sorted(samples.items()):
        digest.update(f"{name} {shape} ".encode())
        digest.update(sample)
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
    for name, weight in plain(module.state_dict()).items():
        digest.update(f"{name} {weight.dtype} {list(weight.shape)}\n".encode())
        digest.update(weight.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _sample(weight: Tensor) -> bytes:
    flat = weight.flatten()
    values = flat[:: -(-len(flat) // SAMPLES)].to("cpu", torch.bfloat16).contiguous()
    return bytes(values.view(torch.uint8).tolist())
