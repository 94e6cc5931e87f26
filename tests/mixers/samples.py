"""The mixers under test, each with all its parameters random, and how to walk a sequence through one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from offramp.mixers.attention import Attention
from offramp.mixers.base import Mixer, State
from offramp.mixers.identity import Identity
from offramp.mixers.mamba import Mamba
from offramp.mixers.mamba2 import Mamba2

MAX_LEN = 400  # some tiles of attention's entries
SLOT = 1  # of 3: its neighbours must not matter

SAMPLES: dict[str, Callable[[int], Mixer]] = {
    "identity": lambda width: Identity(),
    "attention": lambda width: Attention(width, heads=3, head_dim=32),
    "attention-grouped": lambda width: Attention(width, heads=5, kv_heads=1, head_dim=48, qkv_bias=True),
    "attention-window": lambda width: Attention(width, heads=4, kv_heads=2, head_dim=32, window=7),
    "attention-without-positions": lambda width: Attention(width, heads=2, head_dim=16, rope=None),
    "mamba": lambda width: Mamba(width, 5 * 32),
    "mamba-odd-sizes": lambda width: Mamba(width, 69, state=7, rank=3, taps=3, bias=True, conv_bias=False),
    "mamba-norms": lambda width: Mamba(width, 4 * 37, rank=11, rms_eps=1e-6),
    "mamba2": lambda width: Mamba2(width, 5 * 32, head_dim=32, state=64),
    "mamba2-wide-state": lambda width: Mamba2(width, 3 * 48, head_dim=48, state=128, bias=True),
    "mamba2-two-groups": lambda width: Mamba2(
        width, 4 * 32, head_dim=32, state=16, groups=2, conv_bias=False
    ),
    "mamba2-eight-groups": lambda width: Mamba2(
        width, 8 * 16, head_dim=16, state=16, groups=8, dt_limit=(0.1, 1.0)
    ),
}


def make(name: str, width: int, dtype: torch.dtype) -> Mixer:
    mixer = SAMPLES[name](width)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in mixer.parameters():
            scale = 0.3 if weight.dim() == 1 else weight[0].numel() ** -0.5
            weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
    return mixer.to(dtype)


def hidden(tokens: int, width: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def poisoned_state(mixer: Mixer, slots: int = 3) -> State:
    """A state whose memory holds NaN wherever a slot that was reset may not look; every slot begins a sequence."""
    state = mixer.init_state(slots, MAX_LEN)
    for name, memory in vars(state).items():
        if isinstance(memory, Tensor) and memory.is_floating_point() and name not in ("cos", "sin"):
            memory.fill_(float("nan"))
    for slot in range(slots):
        mixer.reset(state, slot)
    return state


def push(mixer: Mixer, state: State, x_TD: Tensor, bucket: int = 16, filler: float = float("nan")) -> Tensor:
    """One chunk of SLOT, padded to `bucket` tokens (0: not), left provisional; its outputs."""
    return push_rows(mixer, state, {SLOT: x_TD}, bucket, filler)[SLOT]


def push_rows(
    mixer: Mixer, state: State, chunks: dict[int, Tensor], bucket: int = 16, filler: float = float("nan")
) -> dict[int, Tensor]:
    """One chunk of every slot, packed into one call and padded to `bucket` tokens, left provisional; the outputs."""
    rows = sorted(chunks)
    n = [len(chunks[slot]) for slot in rows]
    real = torch.cat([chunks[slot] for slot in rows])
    packed = torch.full((max(bucket, len(real)), real.shape[1]), filler, dtype=real.dtype)
    packed[: len(real)] = real
    return dict(zip(rows, mixer(packed, state, rows, n)[: len(real)].split(n), strict=True))


def walk(mixer: Mixer, state: State, x_TD: Tensor, chunks: Sequence[int], **padding: Any) -> Tensor:
    """Chunk after chunk, each committed whole."""
    outputs, done = [], 0
    for size in chunks:
        outputs.append(push(mixer, state, x_TD[done : done + size], **padding))
        mixer.commit(state, [SLOT], [size])
        done += size
    return torch.cat(outputs)


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
