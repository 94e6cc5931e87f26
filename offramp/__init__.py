"""Offramp: early exits for decoder-only Transformers and Mamba language models.

    import offramp

    checkpoint = offramp.load("tiny-mamba2")
    engine = offramp.Engine(checkpoint.model, checkpoint.exits, checkpoint.text)
    request = offramp.Request(prompt=tuple(checkpoint.text.encode("def fib(n):")))
    for event in engine.stream(request):
        print(event.text, event.depth)

Exits of your own, on the frozen model:

    width, blocks = checkpoint.model.config.hidden_size, checkpoint.model.config.num_blocks
    config = offramp.ExitConfig(gate="mamba", bridge="none", after=(4, 8), hidden_size=width, norm_eps=1e-5)
    exits = offramp.build_exits(config, blocks)
    documents = offramp.load_documents("texts/", checkpoint.text.encode)
    offramp.train(checkpoint.model, exits, documents, offramp.ExitTrainConfig(), "path/to/model/exits/mamba")

Names are fetched when first used, so that `import offramp` and `offramp --help` do not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what type checkers read: `X as X` makes a name public
    from offramp.calibration.calibrate import calibrate as calibrate
    from offramp.data.documents import load_documents as load_documents
    from offramp.data.reading import read_documents as read_documents
    from offramp.data.split import split as split
    from offramp.engine.asynchronous import AsyncEngine as AsyncEngine
    from offramp.engine.engine import Engine as Engine
    from offramp.engine.load import Checkpoint as Checkpoint
    from offramp.engine.reply import Generation as Generation
    from offramp.engine.reply import TokenEvent as TokenEvent
    from offramp.engine.request import Request as Request
    from offramp.engine.request import Sampling as Sampling
    from offramp.errors import CapacityError as CapacityError
    from offramp.errors import CheckpointError as CheckpointError
    from offramp.errors import DataError as DataError
    from offramp.errors import ExitsError as ExitsError
    from offramp.errors import OfframpError as OfframpError
    from offramp.errors import QueueFull as QueueFull
    from offramp.errors import UnknownName as UnknownName
    from offramp.errors import UsageError as UsageError
    from offramp.evaluation.evaluate import evaluate as evaluate
    from offramp.evaluation.setting import Setting as Setting
    from offramp.exits.base import ExitConfig as ExitConfig
    from offramp.exits.certificate import Certificate as Certificate
    from offramp.exits.exit_set import build_exits as build_exits
    from offramp.text import Text as Text
    from offramp.training.exit_config import ExitTrainConfig as ExitTrainConfig
    from offramp.training.exits import train_exits
    from offramp.zoo.bundled import load as load

    train = train_exits

__version__ = "0.1.0"

_HOMES = {
    "AsyncEngine": "offramp.engine.asynchronous",
    "CapacityError": "offramp.errors",
    "Certificate": "offramp.exits.certificate",
    "Checkpoint": "offramp.engine.load",
    "CheckpointError": "offramp.errors",
    "DataError": "offramp.errors",
    "Engine": "offramp.engine.engine",
    "ExitConfig": "offramp.exits.base",
    "ExitTrainConfig": "offramp.training.exit_config",
    "ExitsError": "offramp.errors",
    "Generation": "offramp.engine.reply",
    "OfframpError": "offramp.errors",
    "QueueFull": "offramp.errors",
    "Request": "offramp.engine.request",
    "Sampling": "offramp.engine.request",
    "Setting": "offramp.evaluation.setting",
    "Text": "offramp.text",
    "TokenEvent": "offramp.engine.reply",
    "UnknownName": "offramp.errors",
    "UsageError": "offramp.errors",
    "build_exits": "offramp.exits.exit_set",
    "calibrate": "offramp.calibration.calibrate",
    "evaluate": "offramp.evaluation.evaluate",
    "load": "offramp.zoo.bundled",
    "load_documents": "offramp.data.documents",
    "read_documents": "offramp.data.reading",
    "split": "offramp.data.split",
    "train": "offramp.training.exits:train_exits",  # there is other training beside it
}
"""Public name -> the module that defines it, and its name there where that is another."""

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> object:
    """A public name from its home, imported now (PEP 562)."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'offramp' has no attribute {name!r}")
    home, _, there = _HOMES[name].partition(":")
    return getattr(import_module(home), there or name)


def __dir__() -> list[str]:
    return list(__all__)
