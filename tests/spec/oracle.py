"""The truth rows are held against: no segments, no exits, no frontiers; gates and bridges only listen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .mixers import fresh
from .model import Model
from .request import Emitted, Request
from .sampling import choose


@dataclass
class Trace:
    """One oracle run. exports[n]: the observable state, as `Row.export` gives it, after n tokens."""

    tokens: list[int]
    emitted: list[Emitted] = field(default_factory=list)
    ended: str | None = None
    logits: list[Tensor] = field(default_factory=list)  # [V] after each prompt cell, then after each token
    exports: dict[int, Any] = field(default_factory=dict)


class _Walk:
    """All blocks in order, one prompt cell or one token at a time."""

    def __init__(self, model: Model, request: Request) -> None:
        self.model, self.request = model, request
        self.states = model.new_states(fresh, request.context)
        self.trace = Trace(list(request.prompt))

    def prompt(self) -> Tensor:
        """Cell by cell on the grid; the logits [V] after the last one."""
        tokens, cell = self.trace.tokens, self.request.cell
        for start in range(0, len(tokens), cell):
            logits = self._feed(tokens[start : start + cell], start, cell=True)
        return logits

    def token(self, token: int) -> Tensor:
        """One more token, provisional for a moment, then final; the logits [V] after it."""
        logits = self._feed([token], len(self.trace.tokens) - 1, cell=False)
        return logits

    def _feed(self, tokens: Sequence[int], start: int, cell: bool) -> Tensor:
        positions = range(start, start + len(tokens))
        x_TD = self.model.embed[torch.tensor(tokens)]
        listeners = {exit.after: (exit.gate, exit.bridge) for exit in self.model.exits}
        for depth, block in enumerate(self.model.blocks, start=1):
            x_TD = block.run(x_TD, self.states[block], positions, cell)
            for listener in listeners.get(depth, ()):
                listener.run(x_TD, self.states.get(listener), positions, cell)
        if not cell:
            for part, state in self.states.items():
                part.mixer.commit(state, 1)
        self.trace.exports[positions.stop] = self.model.export(self.states)
        self.trace.logits.append(self.model.logits(x_TD[-1]))
        return self.trace.logits[-1]


def plain_decode(model: Model, request: Request) -> Trace:
    """The full model's own text: what `verify` must give, token for token (design 4.5)."""
    walk = _Walk(model, request)
    trace, logits = walk.trace, walk.prompt()
    while trace.ended is None:
        if logits.isnan().any():
            trace.ended = "nan"
            break
        token, logprob = choose(logits, trace.tokens, request.sampling)
        trace.tokens.append(token)
        trace.emitted.append(Emitted(token, logprob, len(model.exits)))
        trace.ended = request.ending(trace.tokens)
        if trace.ended is None:
            logits = walk.token(token)
    return trace


def teacher_force(model: Model, request: Request, tokens: Sequence[int]) -> Trace:
    """The same prompt cells, then the given tokens one by one: what `defer` must leave (design 4.6)."""
    walk = _Walk(model, request)
    walk.prompt()
    for token in tokens:
        walk.trace.tokens.append(token)
        walk.token(token)
    return walk.trace


def same(a: Any, b: Any) -> bool:
    """Equal bit for bit, NaN equal to NaN, through nested lists of tensors."""
    if isinstance(a, Tensor):
        return (
            isinstance(b, Tensor)
            and a.shape == b.shape
            and torch.equal(a.nan_to_num(7e77), b.nan_to_num(7e77))
        )
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
