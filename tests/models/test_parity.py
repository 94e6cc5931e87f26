"""Invariant 3: ours == transformers on the same random checkpoint, to 1e-4 of the largest |logit|."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import tiny
import torch
import transformers
from torch import Tensor

from offramp.mixers.base import State
from offramp.models.base import Block, Model
from offramp.models.checkpoint import fingerprint, load_model, save_model

LENGTH = 33


def close(ours: Tensor, theirs: Tensor) -> None:
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def blocks_of(model: Model) -> list[Block]:
    return [block for block in model.blocks if isinstance(block, Block)]


def step(model: Model, states: Sequence[State], chunk_1T: Tensor) -> Tensor:
    """The next tokens of slot 0 through all blocks, committed; their logits `[1, T, V]`."""
    n = [chunk_1T.shape[1]]
    x_ND = model.embed(chunk_1T[0])
    for block, state in zip(blocks_of(model), states, strict=True):
        x_ND = block(x_ND, state, [0], n)
        block.mixer.commit(state, [0], n)
    return model.logits(x_ND)[None]


@pytest.mark.parametrize("name", tiny.CONFIGS)
@torch.inference_mode()
def test_whole_sequences(name: str, tmp_path: Path) -> None:
    theirs = tiny.make(name, tmp_path)
    ours, tokens = load_model(tmp_path), tiny.tokens(2, LENGTH)
    close(ours(tokens), theirs(tokens).logits)


@pytest.mark.parametrize("name", tiny.CONFIGS)
@pytest.mark.parametrize("cells", [[], [9], [16, 5]])
@pytest.mark.parametrize("sizes", [[1] * 4, [3, 5, 4]])
@torch.inference_mode()
def test_continued_from_a_state(name: str, cells: list[int], sizes: list[int], tmp_path: Path) -> None:
    """Prompt cells, then one token or several at a time, against whole sequences and their own cache."""
    theirs = tiny.make(name, tmp_path)
    ours, tokens = load_model(tmp_path), tiny.tokens(1, sum(cells) + sum(sizes))
    expected = theirs(tokens).logits
    states = [block.mixer.init_state(1, 64) for block in ours.blocks]
    done = 0
    for size in cells:
        x_RTD = ours.embed(tokens[:, done : done + size])
        for block, state in zip(blocks_of(ours), states, strict=True):
            x_RTD = block.prefill(x_RTD, state, [0])
        close(ours.logits(x_RTD), expected[:, done : done + size])
        done += size
    for size in sizes:
        close(step(ours, states, tokens[:, done : done + size]), expected[:, done : done + size])
        done += size


@pytest.mark.parametrize(
    "name",
    [
        "llama",
        "mistral-window",
        "qwen2-window",
        "mamba",
        "falcon-mamba",
        "mamba2-1-group",
        "mamba2-8-groups",
        "bamba-groups",
    ],
)
@torch.inference_mode()
def test_token_by_token_against_their_cache(name: str, tmp_path: Path) -> None:
    theirs = tiny.make(name, tmp_path)
    ours, tokens = load_model(tmp_path), tiny.tokens(1, 20)
    states = [block.mixer.init_state(1, 64) for block in ours.blocks]
    step(ours, states, tokens[:, :8])
    given = theirs(tokens[:, :8], use_cache=True)
    key = "cache_params" if "mamba" in name else "past_key_values"
    for t in range(8, 20):
        cache = {key: given[key]}
        if name.startswith("bamba"):  # transformers 5.23 counts a continued Bamba's positions from 0 again
            cache["position_ids"] = torch.tensor([[t]])
        given = theirs(tokens[:, t : t + 1], use_cache=True, **cache)
        close(step(ours, states, tokens[:, t : t + 1]), given.logits)


@pytest.mark.parametrize("name", tiny.CONFIGS)
@torch.inference_mode()
def test_saved_again_and_read_by_transformers(name: str, tmp_path: Path) -> None:
    theirs = tiny.make(name, tmp_path / "theirs")
    ours, tokens = load_model(tmp_path / "theirs"), tiny.tokens(2, LENGTH)
    save_model(ours, tmp_path / "ours")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert torch.equal(again(tokens).logits, theirs(tokens).logits)
    assert load_model(tmp_path / "ours").config == ours.config


@pytest.mark.parametrize("name", ["llama-tied", "mamba2-8-groups"])
@torch.inference_mode()
def test_low_precision(name: str, tmp_path: Path) -> None:
    """bfloat16 weights stay near the float32 model, and the fingerprint is the same."""
    tiny.make(name, tmp_path / "wide")
    wide, tokens = load_model(tmp_path / "wide"), tiny.tokens(1, LENGTH)
    save_model(wide, tmp_path / "low", dtype=torch.bfloat16)
    low = load_model(tmp_path / "low", dtype=torch.bfloat16)
    assert low.head.get_parameter("weight").dtype == torch.bfloat16
    expected = load_model(tmp_path / "low")(tokens)  # the rounded weights, computed in float32
    assert (low(tokens).float() - expected).abs().max() < 0.15 * expected.abs().max()
    assert (
        fingerprint(low)
        == fingerprint(wide)
        == fingerprint(load_model(tmp_path / "wide", dtype=torch.float64))
    )
    states = [block.mixer.init_state(1, 64) for block in low.blocks]
    chunks = [step(low, states, chunk) for chunk in tokens.split([16, 1, 16], dim=1)]
    assert (torch.cat(chunks, dim=1).float() - expected).abs().max() < 0.15 * expected.abs().max()


def test_fingerprints_tell_weights_apart(tmp_path: Path) -> None:
    tiny.make("llama", tmp_path)
    model = load_model(tmp_path)
    before = fingerprint(model)
    with torch.no_grad():
        model.get_parameter("blocks.1.mlp.up_proj.weight").mul_(1.1)
    assert fingerprint(model) != before
