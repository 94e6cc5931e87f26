"""Rotary positions in config.json: rope_parameters (transformers 5), or rope_theta and rope_scaling before it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from offramp.errors import CheckpointError
from offramp.models.rawconfig import LONGEST, flag, number, positive_int
from offramp.ops.rope import Rope
from offramp.ops.rope_scaling import Dynamic, Linear, Llama3, Scaling, Yarn

MOST_THETA, MOST_FACTOR = 1e12, 1e4
"""Published models stay at 1e7 and 128."""
LEAST = 1e-6
"""Of what is divided by, or multiplied with for ever: less than this only overflows."""


def rope_from(raw: dict[str, Any], head_dim: int, share: float = 1.0) -> Rope:
    """The rotation of a config.json. share: where it says nothing of partial_rotary_factor.

    Raises CheckpointError for a kind of scaling that is not supported and for values out of range.
    """
    fields = _fields(raw)
    kind = fields["rope_type"]
    if not isinstance(kind, str) or kind not in _READERS:
        known = ", ".join(_READERS)
        raise CheckpointError(
            f"config.json: rotary positions of type {kind!r} are not supported, only {known}"
        )
    rope = Rope(
        number(fields, "rope_theta", 10000.0, above=1.0, most=MOST_THETA),
        number(fields, "partial_rotary_factor", share, most=1.0),
        _READERS[kind](fields, positive_int(raw, "max_position_embeddings", most=LONGEST)),
    )
    turned = rope.turned(head_dim)
    if turned % 2 or turned < (4 if isinstance(rope.scaling, Dynamic) else 2):
        raise CheckpointError(
            f"config.json: of attention heads of {head_dim} dimensions (head_dim, or hidden_size /"
            f" num_attention_heads) {turned} cannot be rotated: an even number is needed, for 'dynamic' over 2"
        )
    return rope


def rope_to(rope: Rope) -> dict[str, Any]:
    """The fields of config.json that `rope_from` reads, for newer and older readers."""
    fields: dict[str, Any] = {"rope_theta": rope.theta}
    fields |= {"partial_rotary_factor": rope.share} if rope.share != 1 else {}
    if rope.scaling is None:
        return fields | {"rope_parameters": fields | {"rope_type": "default"}}
    scaling = _written(rope.scaling)
    fields |= {"max_position_embeddings": rope.scaling.original} if isinstance(rope.scaling, Dynamic) else {}
    return fields | {"rope_parameters": fields | scaling, "rope_scaling": scaling}


def context_length(raw: dict[str, Any], rope: Rope) -> int:
    """Tokens: max_position_embeddings, or what the scaling reaches where that field is the original context."""
    given = positive_int(raw, "max_position_embeddings", most=LONGEST)
    if isinstance(rope.scaling, Dynamic | Yarn):
        return min(max(given, math.floor(rope.scaling.original * rope.scaling.factor)), LONGEST)
    return given


def _fields(raw: dict[str, Any]) -> dict[str, Any]:
    """All rotary fields in one dict, with rope_type; rope_scaling comes first, as in transformers."""
    fields = {key: raw[key] for key in ("rope_theta", "partial_rotary_factor") if raw.get(key) is not None}
    kind = "default"
    for key in ("rope_parameters", "rope_scaling"):
        given = raw.get(key) or {}
        if not isinstance(given, dict) or any(isinstance(value, dict) for value in given.values()):
            raise CheckpointError(f"config.json: {key} must be one object for all blocks, not {given!r}")
        kind = given.get("rope_type") or given.get("type") or kind
        fields |= {name: value for name, value in given.items() if value is not None}
    return fields | {"rope_type": kind}


def _factor(fields: dict[str, Any]) -> float:
    return number(fields, "factor", None, least=1.0, most=MOST_FACTOR)


def _linear(fields: dict[str, Any], context: int) -> Linear:
    return Linear(_factor(fields))


def _dynamic(fields: dict[str, Any], context: int) -> Dynamic:
    return Dynamic(_factor(fields), context)


def _llama3(fields: dict[str, Any], context: int) -> Llama3:
    low = number(fields, "low_freq_factor", None, most=MOST_FACTOR)
    return Llama3(
        _factor(fields),
        positive_int(fields, "original_max_position_embeddings", context, LONGEST),
        low,
        number(fields, "high_freq_factor", None, above=low, most=MOST_FACTOR),
    )


def _yarn(fields: dict[str, Any], context: int) -> Yarn:
    factor, slow = _factor(fields), number(fields, "beta_slow", 1.0, least=LEAST, most=MOST_FACTOR)
    return Yarn(
        factor,
        positive_int(fields, "original_max_position_embeddings", context, LONGEST),
        number(fields, "beta_fast", 32.0, above=slow, most=MOST_FACTOR),
        slow,
        flag(fields, "truncate", True),
        number(fields, "attention_factor", _yarn_amplitude(fields, factor), least=LEAST, most=MOST_FACTOR),
    )


def _yarn_amplitude(fields: dict[str, Any], factor: float) -> float:
    """What YaRN's paper recommends (its equation 22), or the ratio of two such numbers (DeepSeek's mscale)."""
    if not fields.get("mscale") or not fields.get("mscale_all_dim"):
        return 0.1 * math.log(factor) + 1
    scales = (number(fields, key, None, most=MOST_FACTOR) for key in ("mscale", "mscale_all_dim"))
    above, below = (0.1 * scale * math.log(factor) + 1 for scale in scales)
    return above / below


_READERS: dict[str, Callable[[dict[str, Any], int], Scaling | None]] = {
    "default": lambda fields, context: None,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
}


def _written(scaling: Scaling) -> dict[str, Any]:
    fields: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if isinstance(scaling, Llama3 | Yarn):
        fields["original_max_position_embeddings"] = scaling.original
    if isinstance(scaling, Llama3):
        fields |= {"low_freq_factor": scaling.low, "high_freq_factor": scaling.high}
    if isinstance(scaling, Yarn):
        names = ("beta_fast", "beta_slow", "truncate", "attention_factor")
        fields |= {name: getattr(scaling, name) for name in names}
    return fields
