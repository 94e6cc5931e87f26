"""The blocks of a model by kind: what each kind's mixer is made of, its size, and what it remembers of a sequence.

A mixer is described by its own public attributes, so that a new one needs no entry here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, cast

from offramp.engine.engine import DEFAULT_MAX_LEN
from offramp.engine.memory import state_bytes
from offramp.mixers.base import CELL, Mixer
from offramp.models.base import Block, Model


@dataclass(frozen=True)
class BlockKind:
    """Blocks that are made alike. numbers: which, from 0. facts: what their mixer is made of.

    parameters: of one block. mlp_share: the MLP's share of them. state_bytes: what one block remembers of a
    sequence of `tokens` tokens; state_grows: whether that depends on the length at all.
    """

    mixer: str
    numbers: tuple[int, ...]
    facts: Mapping[str, str]
    parameters: int
    mlp_share: float
    tokens: int
    state_bytes: int
    state_grows: bool


def block_kinds(model: Model) -> tuple[BlockKind, ...]:
    """The kinds of the model's blocks, in the order of their first blocks."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, block in enumerate(model.blocks):
        mixer = cast(Block, block).mixer
        alike = (type(mixer).__name__, *_facts(mixer).items(), _parameters(block))
        groups.setdefault(alike, []).append(number)
    tokens = min(DEFAULT_MAX_LEN, model.config.context_length)
    return tuple(_kind(model, numbers, tokens) for numbers in groups.values())


def _kind(model: Model, numbers: list[int], tokens: int) -> BlockKind:
    block = cast(Block, model.blocks[numbers[0]])
    parameters, state = _parameters(block), state_bytes(block.mixer, tokens)
    return BlockKind(
        mixer=type(block.mixer).__name__.lower(),
        numbers=tuple(numbers),
        facts=_facts(block.mixer),
        parameters=parameters,
        mlp_share=_parameters(block.mlp) / parameters if block.mlp else 0.0,
        tokens=tokens,
        state_bytes=state,
        state_grows=state != state_bytes(block.mixer, tokens + CELL),
    )


def _parameters(module: Any) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _facts(mixer: Mixer) -> dict[str, str]:
    """The public attributes that are values; what is None or absent is not worth a word."""
    own = {name: value for name, value in vars(mixer).items() if not name.startswith("_")}
    return dict(_words(own | {"training": None}))


def _words(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if is_dataclass(value) and not isinstance(value, type):
            kind = getattr(value, "kind", None)
            yield (
                name.replace("_", " "),
                " ".join(
                    ([kind] if kind else []) + [f"{key} {text}" for key, text in _words(_fields(value))]
                ),
            )
        elif isinstance(value, tuple):
            yield name.replace("_", " "), " to ".join(_number(part) for part in value)
        elif isinstance(value, int | float | str):
            yield name.replace("_", " "), _number(value)


def _fields(value: Any) -> dict[str, Any]:
    """A dataclass's first field, and of the others those that are not at their defaults."""
    first, *others = ((field, getattr(value, field.name)) for field in fields(value))
    return {field.name: own for field, own in (first, *others) if field is first[0] or own != field.default}


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
