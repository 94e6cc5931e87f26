"""Drafts never change the text where positions are scaled or only some blocks have a window."""

from __future__ import annotations

from typing import Any

import pytest
from random_models import BACKBONES, tiny
from test_invariants import said

from offramp.engine.request import Request, Sampling

DYNAMIC = {"rope_type": "dynamic", "factor": 8.0}
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 12}
LLAMA = BACKBONES["llama"]
KINDS: dict[str, dict[str, Any]] = {
    "llama-dynamic": LLAMA | dict(max_position_embeddings=12, rope_scaling=DYNAMIC),
    "llama-yarn": LLAMA | dict(rope_scaling=YARN),
    "qwen2-window": LLAMA
    | dict(model_type="qwen2", use_sliding_window=True, sliding_window=5, max_window_layers=3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_verify_equals_plain(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, kind, KINDS[kind])
    setup = tiny(kind, "linear", "none", seed=3)
    engine, plain = setup.engine(), setup.plain()
    assert engine.tier.name == "exact" and engine.max_len == 96
    drafts = accepted = 0
    for seed, policy in enumerate(["always", "gate", "confidence"]):
        sampling = Sampling(temperature=0.8 * (seed > 0), seed=seed)
        request = Request(
            (3, 1, 4, 1, 5), "verify", policy, (0.4,), 5, sampling, max_tokens=30, ignore_eos=True
        )
        reply = engine.generate(request)
        assert said(reply) == said(plain.generate(request))
        drafts, accepted = drafts + reply.stats.drafts, accepted + reply.stats.accepted
    assert drafts > accepted > 0
