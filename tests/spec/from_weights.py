"""Spec models from tensors in the Hugging Face layout, cast to float64.

`config` may be an object with attributes or a mapping (config.json); `weights` maps names to tensors. Names
that are not read are ignored.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .exits import Gate
from .layers import Linear, RMSNorm, SwiGLU
from .mixers import Attention, Mamba, Mamba2, Mixer
from .model import Block, Model

Weights = Mapping[str, Tensor]
_REQUIRED = object()


def llama_from_weights(config: Any, weights: Weights) -> Model:
    """Llama, Mistral (sliding_window) and Qwen (biases, per-head norms). A missing lm_head means tied."""
    eps = _get(config, "rms_norm_eps")
    blocks = []
    for i in range(_get(config, "num_hidden_layers")):
        layer = f"model.layers.{i}."
        blocks.append(
            Block(
                _norm(weights, layer + "input_layernorm", eps),
                attention_from_weights(config, weights, layer + "self_attn."),
                _norm(weights, layer + "post_attention_layernorm", eps),
                SwiGLU(*(_linear(weights, f"{layer}mlp.{name}_proj") for name in ("gate", "up", "down"))),
            )
        )
    return _model(weights, "model.embed_tokens", blocks, _norm(weights, "model.norm", eps))


def mamba2_from_weights(config: Any, weights: Weights) -> Model:
    """Mamba-2, any number of groups (the grouped gated norm). A missing lm_head means tied."""
    return _backbone_from_weights(config, weights, mamba2_mixer_from_weights)


def mamba_from_weights(config: Any, weights: Weights) -> Model:
    """Mamba (1), and FalconMamba, whose config has mixer_rms_eps. A missing lm_head means tied."""
    return _backbone_from_weights(config, weights, mamba_mixer_from_weights)


def attention_from_weights(config: Any, weights: Weights, prefix: str = "") -> Attention:
    """From {prefix}{q,k,v,o}_proj.weight, with .bias and {q,k}_norm.weight where they exist."""
    heads = _get(config, "num_attention_heads")
    window = _get(config, "sliding_window", None) if _get(config, "use_sliding_window", True) else None
    norms = {}
    if prefix + "q_norm.weight" in weights:
        norms = {
            name: _norm(weights, prefix + name, _get(config, "rms_norm_eps")) for name in ("q_norm", "k_norm")
        }
    projections = [_linear(weights, f"{prefix}{name}_proj") for name in "qkvo"]
    head_dim = _get(config, "head_dim", None) or len(projections[0].weight) // heads
    return Attention(*projections, head_dim=head_dim, theta=_rope_theta(config), window=window, **norms)


def mamba2_mixer_from_weights(config: Any, weights: Weights, prefix: str = "") -> Mamba2:
    """From {prefix}in_proj.weight, conv1d.*, dt_bias, A_log, D, norm.weight, out_proj.weight."""
    return Mamba2(
        in_proj=_linear(weights, prefix + "in_proj"),
        conv_weight=_tensor(weights, prefix + "conv1d.weight").squeeze(1),
        conv_bias=_optional(weights, prefix + "conv1d.bias"),
        dt_bias=_tensor(weights, prefix + "dt_bias"),
        A_log=_tensor(weights, prefix + "A_log"),
        D=_tensor(weights, prefix + "D"),
        norm_weight=_tensor(weights, prefix + "norm.weight"),
        out_proj=_linear(weights, prefix + "out_proj"),
        groups=_get(config, "n_groups"),
        eps=_get(config, "layer_norm_epsilon"),
        dt_limit=tuple(_get(config, "time_step_limit", None) or (0.0, float("inf"))),
    )


def mamba_mixer_from_weights(config: Any, weights: Weights, prefix: str = "") -> Mamba:
    """From {prefix}in_proj.weight, conv1d.*, x_proj.weight, dt_proj.*, A_log, D, out_proj.weight."""
    return Mamba(
        in_proj=_linear(weights, prefix + "in_proj"),
        conv_weight=_tensor(weights, prefix + "conv1d.weight").squeeze(1),
        conv_bias=_optional(weights, prefix + "conv1d.bias"),
        x_proj=_linear(weights, prefix + "x_proj"),
        dt_proj=_linear(weights, prefix + "dt_proj"),
        A_log=_tensor(weights, prefix + "A_log"),
        D=_tensor(weights, prefix + "D"),
        out_proj=_linear(weights, prefix + "out_proj"),
        rms_eps=_get(config, "mixer_rms_eps", None),
    )


def gate_from_weights(
    weights: Weights, prefix: str = "", mixer: Mixer | None = None, eps: float = 1e-6
) -> Gate:
    """From {prefix}norm.weight (optional), down.{weight,bias} (optional), out.{weight,bias}.

    `mixer` is one of the mixers above, read with the prefix "{prefix}mixer.", or None for a linear gate.
    """
    norm = _norm(weights, prefix + "norm", eps) if prefix + "norm.weight" in weights else None
    down = _linear(weights, prefix + "down") if prefix + "down.weight" in weights else None
    return Gate(_linear(weights, prefix + "out"), norm, down, mixer)


def _backbone_from_weights(config: Any, weights: Weights, mixer_from_weights: Any) -> Model:
    eps = _get(config, "layer_norm_epsilon")
    layers = [f"backbone.layers.{i}." for i in range(_get(config, "num_hidden_layers"))]
    blocks = [
        Block(_norm(weights, layer + "norm", eps), mixer_from_weights(config, weights, layer + "mixer."))
        for layer in layers
    ]
    return _model(weights, "backbone.embeddings", blocks, _norm(weights, "backbone.norm_f", eps))


def _model(weights: Weights, embed: str, blocks: list[Block], norm: RMSNorm) -> Model:
    head = "lm_head" if "lm_head.weight" in weights else embed
    return Model(_tensor(weights, embed + ".weight"), blocks, norm, _linear(weights, head))


def _tensor(weights: Weights, name: str) -> Tensor:
    return weights[name].detach().to(device="cpu", dtype=torch.float64, copy=True)


def _optional(weights: Weights, name: str) -> Tensor | None:
    return _tensor(weights, name) if name in weights else None


def _linear(weights: Weights, name: str) -> Linear:
    return Linear(_tensor(weights, name + ".weight"), _optional(weights, name + ".bias"))


def _norm(weights: Weights, name: str, eps: float) -> RMSNorm:
    return RMSNorm(_tensor(weights, name + ".weight"), eps)


def _rope_theta(config: Any) -> float:
    """Older configs have rope_theta (and perhaps rope_scaling), newer ones rope_parameters."""
    rope = _get(config, "rope_parameters", None) or _get(config, "rope_scaling", None) or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ValueError(f"rope_type {kind!r} is not in the specification")
    return float(rope.get("rope_theta") or _get(config, "rope_theta"))


def _get(config: Any, name: str, default: Any = _REQUIRED) -> Any:
    if isinstance(config, Mapping):
        value = config.get(name, default)
    else:
        value = getattr(config, name, default)
    if value is _REQUIRED:
        raise KeyError(f"the config has no {name!r}")
    return value
