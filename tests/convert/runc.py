"""llama2.c over again, as plainly as it can be said: its files, its arithmetic, its tokenizer."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
HEADER = (16, 24, 3, 4, 2, 263, 20)
"""dim, hidden, layers, heads, kv_heads, vocabulary, positions."""

WORDS = [" ", "a", "b", "c", "é", "ab", " a", "abc", "bc", " ab", "aa", "  ", "aaa", "ca", "b a"]


def weights(header: Sequence[int], tied: bool, seed: int = 0) -> list[Array]:
    """The arrays of a file in its order, random but for the rotary tables, which the model itself never reads."""
    dim, hidden, layers, heads, kv_heads, vocab, positions = header
    kv = dim // heads * kv_heads
    shapes = [(vocab, dim), (layers, dim), (layers, dim, dim), (layers, kv, dim), (layers, kv, dim)]
    shapes += [(layers, dim, dim), (layers, dim), (layers, hidden, dim), (layers, dim, hidden)]
    shapes += [(layers, hidden, dim), (dim,), (positions, dim // heads // 2), (positions, dim // heads // 2)]
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 0.4, shape) for shape in [*shapes, *([] if tied else [(vocab, dim)])]]


def checkpoint(header: Sequence[int] = HEADER, tied: bool = True, seed: int = 0) -> bytes:
    signed = [*header[:5], header[5] if tied else -header[5], header[6]]
    body = b"".join(array.astype("<f4").tobytes() for array in weights(header, tied, seed))
    return struct.pack("<7i", *signed) + body


def forward(header: Sequence[int], tied: bool, tokens: Sequence[int]) -> Array:
    """Logits `[T, V]` of run.c's `forward`, in float64: every head's neighbouring pairs are turned."""
    arrays = [array.astype(np.float32).astype(np.float64) for array in weights(header, tied)]
    embed, att, wq, wk, wv, wo, ffn, w1, w2, w3, final, _, _ = arrays[:13]
    x = embed[list(tokens)]
    for i in range(header[2]):
        h = norm(x, att[i])
        q, k, v = (heads_of(h @ w[i].T, header) for w in (wq, wk, wv))
        x = x + attend(turned(q), turned(k), v) @ wo[i].T
        h = norm(x, ffn[i])
        gate = h @ w1[i].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w3[i].T)) @ w2[i].T
    return norm(x, final) @ (embed if tied else arrays[13]).T


def norm(x: Array, weight: Array) -> Array:
    return weight * x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)


def heads_of(x: Array, header: Sequence[int]) -> Array:
    return x.reshape(len(x), -1, header[0] // header[3])


def turned(x: Array) -> Array:
    """Pairs (2i, 2i + 1) of each head `[T, H, K]` as complex numbers."""
    size = x.shape[-1]
    angle = np.arange(len(x))[:, None, None] * 10000.0 ** -(np.arange(0, size, 2) / size)
    pairs = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)
    return np.stack([pairs.real, pairs.imag], -1).reshape(x.shape)


def attend(q: Array, k: Array, v: Array) -> Array:
    out = np.zeros_like(q)
    for t in range(len(q)):
        for head in range(q.shape[1]):
            shared = head * k.shape[1] // q.shape[1]
            score = k[: t + 1, shared] @ q[t, head] / np.sqrt(q.shape[2])
            share = np.exp(score - score.max())
            out[t, head] = share @ v[: t + 1, shared] / share.sum()
    return out.reshape(len(q), -1)


def vocabulary(words: Sequence[str] = WORDS, size: int | None = None) -> list[tuple[bytes, float]]:
    """Bytes and score of each token: the words after the bytes, the longer of the earlier ones first."""
    special = [b"<unk>", b"\n<s>\n", b"\n</s>\n"]
    tokens = [(text, 0.0) for text in (*special, *(b"<0x%02X>" % byte for byte in range(256)))]
    tokens += [(word.encode(), -float(i)) for i, word in enumerate(words)]
    return tokens[:size]


def tokenizer_file(tokens: Sequence[tuple[bytes, float]]) -> bytes:
    longest = max(len(text) for text, _ in tokens)
    return struct.pack("<i", longest) + b"".join(
        struct.pack("<fi", score, len(text)) + text for text, score in tokens
    )


def encode(tokens: Sequence[tuple[bytes, float]], text: str) -> list[int]:
    """run.c's `encode`, with the begin of the sequence."""
    ids = {piece: i for i, (piece, _) in enumerate(tokens)}
    found: list[int] = []
    for char in " " * bool(text) + text:
        raw = char.encode()
        found += [ids[raw]] if raw in ids else [byte + 3 for byte in raw]
    while True:
        best = (-1e10, -1, -1)
        for i in range(len(found) - 1):
            joined = ids.get(tokens[found[i]][0] + tokens[found[i + 1]][0], -1)
            if joined >= 0 and tokens[joined][1] > best[0]:
                best = (tokens[joined][1], joined, i)
        if best[2] < 0:
            return [1, *found]
        found[best[2] : best[2] + 2] = [best[1]]


def decode(tokens: Sequence[tuple[bytes, float]], ids: Sequence[int]) -> str:
    """run.c's `decode` of a whole sequence that begins with its begin, where it is UTF-8."""
    raw = b""
    for before, token in zip(ids, ids[1:], strict=False):
        piece = tokens[token][0]
        piece = piece[1:] if before == 1 and piece.startswith(b" ") else piece
        raw += bytes([token - 3]) if 3 <= token < 259 else piece
    return raw.decode("utf-8", "replace")
