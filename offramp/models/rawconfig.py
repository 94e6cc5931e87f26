"""Reading config.json's fields: a value of the wrong type is an error that names its field."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any

from offramp.errors import CheckpointError
from offramp.models.base import ModelConfig

LARGEST = 1 << 20
"""No size of a model comes near it, and three of them multiplied still fit the 64 bits tensors are counted in."""
LONGEST = 1 << 31
"""Tokens: a context or window beyond it is no limit."""
MOST_BLOCKS = 1 << 10
"""So that a config cannot ask for more than its weights could ever be compared with."""


def positive_int(raw: dict[str, Any], key: str, default: int | None = None, most: int = LARGEST) -> int:
    """raw[key], the default where absent or null. Raises CheckpointError unless it is an integer in 1..most."""
    value = raw.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise CheckpointError(f"config.json: {key} must be an integer from 1 to {most}, not {value!r}")
    return value


def positive_float(raw: dict[str, Any], key: str, default: float) -> float:
    """raw[key], the default where absent or null. Raises CheckpointError unless it is a finite number > 0."""
    value = raw.get(key)
    value = default if value is None else value
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= sys.float_info.max:
        raise CheckpointError(f"config.json: {key} must be a positive number, not {value!r}")
    return float(value)


def number(
    raw: dict[str, Any],
    key: str,
    default: float | None,
    *,
    above: float = 0.0,
    least: float = 0.0,
    most: float,
) -> float:
    """raw[key], the default where absent or null. Raises CheckpointError unless above < it <= most, least <= it."""
    value = raw.get(key)
    value = default if value is None else value
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or not real or not max(above, least) <= value <= most or value == above:
        low = f"above {above:g}" if above >= least else f"from {least:g}"
        raise CheckpointError(
            f"config.json: {key} must be a number {low} and at most {most:g}, not {value!r}"
        )
    return float(value)


def flag(raw: dict[str, Any], key: str, default: bool) -> bool:
    """raw[key], the default where absent or null. Raises CheckpointError unless it is true or false."""
    value = raw.get(key)
    value = default if value is None else value
    if not isinstance(value, bool):
        raise CheckpointError(f"config.json: {key} must be true or false, not {value!r}")
    return value


def require(raw: dict[str, Any], key: str, only: Any) -> None:
    """Raises CheckpointError where a feature has another value than the supported one (absent is that)."""
    value = raw.get(key, only)
    if value != only:
        raise CheckpointError(f"config.json: {key} = {value!r} is not supported, only {only!r}")


def shared_fields(raw: dict[str, Any], norm_eps: str = "rms_norm_eps") -> dict[str, Any]:
    """What `ModelConfig` asks for and most families write alike, but the context length."""
    return {
        "model_type": raw["model_type"],
        "vocab_size": positive_int(raw, "vocab_size"),
        "hidden_size": positive_int(raw, "hidden_size"),
        "num_blocks": positive_int(raw, "num_hidden_layers", most=MOST_BLOCKS),
        "norm_eps": positive_float(raw, norm_eps, 1e-6),
        "tie_embeddings": flag(raw, "tie_word_embeddings", False),
        "bos_token_id": next(iter(token_ids(raw, "bos_token_id")), None),
        "eos_token_ids": token_ids(raw, "eos_token_id"),
    }


def shared_json(config: ModelConfig, norm_eps: str = "rms_norm_eps") -> dict[str, Any]:
    """The fields of config.json that `shared_fields` reads, and max_position_embeddings."""
    eos = list(config.eos_token_ids)
    return {
        "model_type": config.model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_blocks,
        "max_position_embeddings": config.context_length,
        norm_eps: config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": eos[0] if len(eos) == 1 else eos or None,
    }


def head_sizes(raw: dict[str, Any]) -> dict[str, Any]:
    """heads, kv_heads and head_dim, an equal share of the width where config.json gives none."""
    width, heads = positive_int(raw, "hidden_size"), positive_int(raw, "num_attention_heads")
    kv_heads = positive_int(raw, "num_key_value_heads", heads)
    if heads % kv_heads:
        raise CheckpointError(f"config.json: {heads} attention heads cannot share {kv_heads} key-value heads")
    if raw.get("head_dim") is None and heads > width:
        raise CheckpointError(f"config.json: {heads} attention heads cannot share a hidden_size of {width}")
    return {"heads": heads, "kv_heads": kv_heads, "head_dim": positive_int(raw, "head_dim", width // heads)}


def one_of(raw: dict[str, Any], key: str, known: Collection[str], default: str) -> str:
    """raw[key], the default where absent or null. Raises CheckpointError, listing them, unless it is known."""
    value = raw.get(key)
    value = default if value is None else value
    if not isinstance(value, str) or value not in known:
        raise CheckpointError(
            f"config.json: {key} = {value!r} is not supported, only one of {', '.join(known)}"
        )
    return value


def token_ids(raw: dict[str, Any], key: str, file: str = "config.json") -> tuple[int, ...]:
    """Token ids given as null, an integer or a list. Raises CheckpointError for anything else."""
    value = raw.get(key)
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in ids):
        raise CheckpointError(f"{file}: {key} must be a token id or a list of them, not {value!r}")
    return tuple(ids)
