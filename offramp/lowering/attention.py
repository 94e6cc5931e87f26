"""Attention as kernels: maps, norms of heads, new entries, and what queries see of them.

Shapes: H heads, G key-value heads, K head dim.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from offramp.lowering.kernels import Mixing, NotLowered, exactly, mixing
from offramp.lowering.plain import whole
from offramp.mixers._entries import AttentionState
from offramp.mixers.attention import Attention
from offramp.mixers.base import State
from offramp.native.emit.attention import WIDEST, AttentionMemory, attend, write_entries
from offramp.native.emit.columns import columns
from offramp.native.emit.linear import Map, linear, linears
from offramp.native.emit.norm import head_norm
from offramp.native.program import Builder, Register
from offramp.ops.norm import RMSNorm


@mixing.register
def _attention(mixer: Attention, state: State) -> Mixing:
    exactly(mixer, Attention)
    assert isinstance(state, AttentionState)
    if mixer.head_dim > WIDEST:
        raise NotLowered(f"attention heads of more than {WIDEST} dimensions have no kernels")
    for norm in (mixer.q_norm, mixer.k_norm):
        if type(norm) not in (nn.Identity, RMSNorm):
            raise NotLowered(f"{type(norm).__name__} of heads has no kernels")
    memory = AttentionMemory(state.k, state.v, state.pos, state.cos, state.sin)
    return Mixing(
        run=partial(_run, mixer, memory),
        advance=partial(_advance, mixer, memory),
        claim=partial(mixer.claim, state),
    )


def _run(mixer: Attention, memory: AttentionMemory, to: Builder, x: Register, onto: Register) -> None:
    part, maps = to.part(), (mixer.q_proj, mixer.k_proj, mixer.v_proj)
    q, k, v = map(whole, linears(to, x, [Map(each.weight, each.bias) for each in maps]))
    _norm_heads(mixer.q_norm, to, q, mixer.heads)
    _norm_heads(mixer.k_norm, to, k, mixer.kv_heads)
    write_entries(to, part, memory, columns(k), columns(v))
    mixed = attend(to, part, memory, columns(q), mixer.heads, mixer.window)
    linear(to, mixed, mixer.o_proj.weight, mixer.o_proj.bias, out=onto, add=True)


def _advance(mixer: Attention, memory: AttentionMemory, to: Builder, x: Register) -> None:
    maps = (mixer.k_proj, mixer.v_proj)
    k, v = map(whole, linears(to, x, [Map(each.weight, each.bias) for each in maps]))
    _norm_heads(mixer.k_norm, to, k, mixer.kv_heads)
    write_entries(to, to.part(), memory, columns(k), columns(v))


def _norm_heads(norm: nn.Module, to: Builder, x: Register, heads: int) -> None:
    if isinstance(norm, RMSNorm):
        head_norm(to, x, norm.weight, heads, norm.eps)
