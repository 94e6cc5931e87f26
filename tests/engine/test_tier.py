"""What the self-test at the engine's start must look at before "exact" is promised."""

from __future__ import annotations

from typing import Any

import pytest
from random_models import tiny
from torch import nn

from offramp.engine import tier


def test_one_block_and_one_exit_of_each_kind_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a kind are those made alike: the same mixer with a window computes otherwise."""
    tried: list[nn.Module] = []
    monkeypatch.setattr(tier, "_chunk_exact", lambda module, *_: not tried.append(module))
    setup = tiny("llama", "mamba", "lens")
    blocks: Any = setup.model.blocks
    blocks[5].mixer.window = 7
    assert tier.self_test(setup.model, setup.exits)
    assert len(tried) == 3 and blocks[5] in tried and sum(module in set(setup.exits) for module in tried) == 1
