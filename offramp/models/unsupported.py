"""What a config.json may ask for that no family here has: named before anything else is said about the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from offramp.errors import CheckpointError

FEATURES: Mapping[str, tuple[str, ...]] = {
    "a mixture of experts": ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
    "multi-head latent attention": ("kv_lora_rank",),
    "vision parts": ("vision_config", "vision_tower", "mm_vision_tower", "visual"),
    "audio parts": ("audio_config", "speech_config"),
    "an encoder": ("is_encoder_decoder", "encoder"),
    "attention to later tokens": ("use_bidirectional_attention",),
    "capped logits": ("attn_logit_softcapping", "final_logit_softcapping"),
    "attention in chunks": ("attention_chunk_size",),
    "sparse attention": ("index_topk",),
    "keys and values shared between blocks": ("num_kv_shared_layers",),
}
"""Feature -> the fields that say a model has it, unless they are null, false, zero or one (expert)."""

SUPPORTED = (
    "Supported are decoders of text whose blocks are full or sliding-window attention (grouped or not) with dense MLPs,"
    " Mamba-1, Mamba-2, or these mixed: model_type"
)


def refuse_features(raw: Mapping[str, Any], model_types: Iterable[str]) -> None:
    """Raises CheckpointError naming every feature of config.json that is not supported, and what is."""
    asked = [
        f"{feature} ({field} = {_short(raw[field])})"
        for feature, fields in FEATURES.items()
        for field in fields
        if raw.get(field) is True or raw.get(field) not in (None, False, 0, 1)
    ]
    if asked:
        model_type = raw.get("model_type")
        raise CheckpointError(
            f"config.json: this {model_type!r} model has {' and '.join(asked)}, which is not supported."
            f" {SUPPORTED} {', '.join(sorted(model_types))}."
        )


def _short(value: Any) -> str:
    return "{...}" if isinstance(value, dict) else repr(value)[:40]
