"""Activations by the number the kernels know them by; see activation.h."""

from __future__ import annotations

NAMES = ("none", "silu", "gelu", "gelu_tanh", "relu", "sigmoid", "softplus", "tanh")


def activation_number(name: str) -> int:
    return NAMES.index(name)
