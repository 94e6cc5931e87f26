"""A short name for all that decides what a bulk run's replies say, its prompts apart."""

from __future__ import annotations

from dataclasses import asdict, replace
from hashlib import blake2b

import torch

from offramp.engine.load import Checkpoint
from offramp.engine.request import Request
from offramp.exits.exit_set import ExitSet
from offramp.models.fingerprint import fingerprint
from offramp.models.quantised import plain


def settings_digest(checkpoint: Checkpoint, base: Request, **more: object) -> str:
    """Of the model, its exits, its tokenizer, and what the command says.

    Of exits and tokenizer every byte counts. The model counts by its fingerprint, which is a sample of its weights:
    trained further it is another, but a few values changed by hand may go unseen.
    """
    exits, info = checkpoint.exits, checkpoint.info
    facts = (
        fingerprint(checkpoint.model),
        checkpoint.model.config.eos_token_ids,
        asdict(exits.config) if exits is not None else None,
        _weights_digest(exits) if exits is not None else None,
        asdict(info) if info is not None else None,
        _text_digest(checkpoint),
        asdict(replace(base, prompt=(0,))),
        sorted(more.items()),
    )
    return blake2b(repr(facts).encode(), digest_size=4).hexdigest()


def _weights_digest(exits: ExitSet) -> str:
    digest = blake2b()
    for name, weight in plain(exits.state_dict()).items():
        digest.update(f"{name} {weight.dtype} {list(weight.shape)} ".encode())
        digest.update(weight.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _text_digest(checkpoint: Checkpoint) -> str:
    """Of tokenizer.json and what stands beside it: special tokens, the chat template. "" where there is none."""
    if checkpoint.text is None:
        return ""
    digest = blake2b((checkpoint.folder / "tokenizer.json").read_bytes())
    digest.update(repr(sorted(checkpoint.text.config.items())).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
