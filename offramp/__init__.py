"""Offramp: early exits for decoder-only Transformers and Mamba language models.

    import offramp

    checkpoint = offramp.load("path/to/model")
    engine = offramp.Engine(checkpoint.model, checkpoint.exits, checkpoint.text)
    request = offramp.Request(prompt=tuple(checkpoint.text.encode("def fib(n):")))
    for event in engine.stream(request):
        print(event.text, event.depth)

Names are fetched when first used, so that `import offramp` and `offramp --help` do not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offramp.engine.engine import Engine
    from offramp.engine.load import Checkpoint, load
    from offramp.engine.sequence import Generation, Request, Sampling, TokenEvent
    from offramp.errors import (
        CapacityError,
        CheckpointError,
        DataError,
        ExitsError,
        OfframpError,
        UnknownName,
        UsageError,
    )
    from offramp.text import Text

__version__ = "0.1.0"

__all__ = [
    "CapacityError",
    "Checkpoint",
    "CheckpointError",
    "DataError",
    "Engine",
    "ExitsError",
    "Generation",
    "OfframpError",
    "Request",
    "Sampling",
    "Text",
    "TokenEvent",
    "UnknownName",
    "UsageError",
    "__version__",
    "load",
]

_HOMES = {
    "offramp.engine.engine": ("Engine",),
    "offramp.engine.load": ("Checkpoint", "load"),
    "offramp.engine.sequence": ("Generation", "Request", "Sampling", "TokenEvent"),
    "offramp.errors": (
        "CapacityError",
        "CheckpointError",
        "DataError",
        "ExitsError",
        "OfframpError",
        "UnknownName",
        "UsageError",
    ),
    "offramp.text": ("Text",),
}


def __getattr__(name: str) -> object:
    """A public name from its home, imported now (PEP 562)."""
    from importlib import import_module

    for home, members in _HOMES.items():
        if name in members:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'offramp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
