"""A truncated model is the logit lens of the whole one, here and in transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from offramp.convert.depth import truncate
from offramp.convert.dtypes import cast
from offramp.convert.source import from_folder
from offramp.convert.write import write_folder
from offramp.errors import CheckpointError, UsageError
from offramp.models.checkpoint import load_model
from tests.models import tiny

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("name", tiny.CONFIGS)
@torch.inference_mode()
def test_logits_are_the_lens_here_and_in_transformers(name: str, tmp_path: Path) -> None:
    tiny.make(name, tmp_path / "whole")
    blocks = load_model(tmp_path / "whole").config.num_blocks
    depth = blocks - 1
    write_folder(truncate(from_folder(tmp_path / "whole"), depth), tmp_path / "cut")
    whole, cut, tokens = load_model(tmp_path / "whole"), load_model(tmp_path / "cut"), tiny.tokens(2, 20)
    lens = whole.logits(whole.hidden_states(tokens)[depth])
    assert torch.equal(cut(tokens), lens)
    assert not torch.allclose(lens, whole(tokens), rtol=0.01)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "cut")
    assert (theirs(tokens).logits - lens).abs().max() <= 1e-4 * lens.abs().max()
    assert theirs.config.num_hidden_layers == depth


def test_everything_of_a_block_is_cut(tmp_path: Path) -> None:
    tiny.make("llama", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    more = {
        "layer_types": ["full_attention"] * 2,
        "eos_token_id": [3, 4],
        "n_layer": 2,
    }
    (tmp_path / "config.json").write_text(json.dumps(config | more))
    (tmp_path / "exits" / "mine").mkdir(parents=True)
    (tmp_path / "exits" / "mine" / "exits.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    cut = truncate(from_folder(tmp_path), 1)
    assert cut.config["layer_types"] == ["full_attention"]
    assert cut.config["eos_token_id"] == [3, 4] and cut.config["n_layer"] == 1
    assert not any("layers.1." in name for name in cut.tensors)
    assert set(cut.files) >= {"tokenizer.json"} and not any(name.startswith("exits") for name in cut.files)


def test_what_only_one_family_says_of_its_blocks_is_cut(tmp_path: Path) -> None:
    tiny.make("bamba", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    blocks = config["num_hidden_layers"]
    config.pop("layers_block_type", None)
    (tmp_path / "config.json").write_text(json.dumps(config | {"attn_layer_indices": [1, blocks - 1]}))
    assert truncate(from_folder(tmp_path), blocks - 1).config["attn_layer_indices"] == [1]


@pytest.mark.parametrize("depth", [-1, 0, 2, 3])
def test_depths_outside(depth: int, tmp_path: Path) -> None:
    tiny.make("llama", tmp_path)
    with pytest.raises(UsageError, match="1 to 1: this model has 2 blocks"):
        truncate(from_folder(tmp_path), depth)


def test_families_that_are_not_known(tmp_path: Path) -> None:
    tiny.make("llama", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "opt"}))
    with pytest.raises(CheckpointError, match="opt"):
        truncate(from_folder(tmp_path), 1)


def test_names_without_the_prefix_of_a_model_with_a_head(tmp_path: Path) -> None:
    """openai-community/gpt2 writes `h.0...`, and masks that follow from the config."""
    tiny.make("gpt2", tmp_path / "whole")
    file = tmp_path / "whole" / "model.safetensors"
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(file).items()}
    tensors |= {f"h.{i}.attn.masked_bias": torch.tensor(-1e9) for i in range(2)}
    save_file(tensors, file, metadata={"format": "pt"})
    write_folder(cast(truncate(from_folder(tmp_path / "whole"), 1), "f16"), tmp_path / "cut")
    whole, cut, tokens = load_model(tmp_path / "whole"), load_model(tmp_path / "cut"), tiny.tokens(2, 9)
    lens = whole.logits(whole.hidden_states(tokens)[1])
    assert (cut(tokens) - lens).abs().max() < 1e-2 * lens.abs().max()
