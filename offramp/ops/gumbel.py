"""Gumbel noise that is a function of its place alone: the same for (seed, position, token) whoever asks.

A counter-based hash (SplitMix64) gives the bits; float64 throughout. Shapes: R rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from offramp.ops.rowwise import rowwise

_MASK = (1 << 64) - 1


def gumbel(seed: int, position: int, vocab: int, device: torch.device | str = "cpu") -> Tensor:
    """Standard Gumbel noise `[V]`, float64."""
    return gumbel_each([noise_key(seed, position)], vocab, device)[0]


def noise_key(seed: int, position: int) -> int:
    """What all tokens' noise at a position is made from: 64 bits, with a sign."""
    return _signed(_mix_int(_mix_int(seed & _MASK) ^ position))


def gumbel_each(keys: Sequence[int], vocab: int, device: torch.device | str) -> Tensor:
    """Noise `[R, V]`, a row for each key."""
    ids_V = torch.arange(vocab, dtype=torch.int64, device=device)
    keys_R1 = torch.tensor(keys, device=device)[:, None]
    bits_RV = _mix(ids_V * _signed(0x9E3779B97F4A7C15) + keys_R1)
    uniform_RV = (_shift(bits_RV, 11).double() + 0.5) * 2.0**-53
    return rowwise(lambda uniform: -(-uniform.log()).log(), uniform_RV)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64 tensors; products wrap as they must."""
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def _mix_int(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift: torch's is arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(x: int) -> int:
    return x - (1 << 64) if x >= 1 << 63 else x
