"""Modules without state: norms, linear maps, and what a block computes for each token by itself."""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from offramp.lowering.kernels import NotLowered, apply, exactly
from offramp.models.mlp import MLP, GatedMLP, gelu_tanh
from offramp.native.emit.columns import Columns
from offramp.native.emit.elementwise import elementwise
from offramp.native.emit.linear import gated, linear
from offramp.native.emit.norm import layer_norm, rms_norm
from offramp.native.program import Builder, Register
from offramp.ops.norm import CentredRMSNorm, LayerNorm, RMSNorm, at_least_float32

ACTIVATIONS = {F.silu: "silu", F.gelu: "gelu", gelu_tanh: "gelu_tanh", F.relu: "relu"}


@apply.register
def _identity(module: nn.Identity, to: Builder, x: Register) -> Register:
    return x


@apply.register
def _rms_norm(module: RMSNorm, to: Builder, x: Register) -> Register:
    weight = module.weight
    if type(module) is CentredRMSNorm:
        return whole(rms_norm(to, x, 1 + at_least_float32(weight.detach()), module.eps))
    exactly(module, RMSNorm)
    return whole(rms_norm(to, x, weight, module.eps))


@apply.register
def _layer_norm(module: LayerNorm, to: Builder, x: Register) -> Register:
    exactly(module, LayerNorm)
    return layer_norm(to, x, module.weight, module.bias, module.eps)


@apply.register
def _linear(module: nn.Linear, to: Builder, x: Register) -> Register:
    exactly(module, nn.Linear)
    return whole(linear(to, x, module.weight, module.bias))


def add(module: nn.Module, to: Builder, x: Register, stream: Register) -> None:
    """stream += module(x). Raises NotLowered where there are no kernels for the module."""
    if isinstance(module, MLP | GatedMLP):
        down, inner = module.down_proj, _inner(module, to, x)
        linear(to, inner, down.weight, down.bias, out=stream, add=True)
    else:
        elementwise(to, apply(module, to, x), stream.width, out=stream, add=True)


def _inner(module: MLP | GatedMLP, to: Builder, x: Register) -> Register:
    up, activation = module.up_proj, ACTIVATIONS.get(module.activation)
    if activation is None:
        raise NotLowered(f"an MLP with activation {module.activation} has no kernels")
    if isinstance(module, GatedMLP):
        gate = module.gate_proj
        return gated(to, x, gate.weight, up.weight, activation, gate.bias, up.bias)
    return whole(linear(to, x, up.weight, up.bias, activation))


def whole(x: Register | Columns) -> Register:
    """A register of its own."""
    assert isinstance(x, Register)
    return x
