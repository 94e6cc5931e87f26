"""What the loader refuses, and that its texts name the culprit and the way out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from offramp.errors import CheckpointError
from offramp.models.checkpoint import load_model
from offramp.models.shapes import shapes_only

WEIGHT = "model.layers.1.mlp.up_proj.weight"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.make("llama", tmp_path)
    return tmp_path


def refused(folder: Path | str, *words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_model(folder)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def edit_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def edit_tensors(folder: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def shards(tmp_path: Path, name: str = "llama") -> Path:
    tiny.make(name, tmp_path, max_shard_size="20KB")
    assert (tmp_path / INDEX).exists() and not (tmp_path / "model.safetensors").exists()
    return tmp_path


def test_missing_folder(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "there is no folder", "nowhere")


def test_a_file_is_no_folder(folder: Path) -> None:
    refused(folder / "config.json", "is a file")


def test_empty_folder(tmp_path: Path) -> None:
    refused(tmp_path, "not a checkpoint", "no config.json")


def test_an_id_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    refused("someone/something", "no folder 'someone/something'", "no network")


def test_of_an_id_only_what_is_needed_is_fetched(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    asked: dict[str, Any] = {}

    def fetch(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    load_model("someone/something", revision="v1")
    assert (asked["name"], asked["revision"]) == ("someone/something", "v1")
    assert not any(pattern.startswith(("*", "consolidated")) for pattern in asked["allow_patterns"])


@pytest.mark.parametrize("text", ["{", "[]", "\x00", '"text"', "[" * 100000])
def test_damaged_config(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    refused(folder, "config.json", "JSON")


def test_huge_config(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offramp.models.folder.SMALL", 10)
    refused(folder, "config.json", "larger than")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_type": "t5"}, ["t5", "gemma, gpt2", "mistral, qwen2"]),
        ({"model_type": "lama"}, ["Did you mean 'llama'"]),
        ({"model_type": None}, ["no model_type"]),
        ({"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, ["'longrope'", "llama3, yarn"]),
        ({"rope_parameters": None, "rope_scaling": {"type": "su"}}, ["'su'", "llama3, yarn"]),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "default"}}},
            ["rope_parameters", "one object"],
        ),
        ({"rope_scaling": "linear"}, ["rope_scaling", "'linear'"]),
        ({"rope_scaling": {"type": "linear"}}, ["factor", "None"]),
        ({"rope_scaling": {"type": "linear", "factor": 0.5}}, ["factor", "from 1", "0.5"]),
        ({"rope_scaling": {"type": "yarn", "factor": 10**400}}, ["factor", "at most 10000"]),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0, "beta_fast": 1}}, ["beta_fast", "above 1"]),
        (
            {"rope_scaling": {"type": "llama3", "factor": 2.0, "low_freq_factor": 4, "high_freq_factor": 4}},
            ["high_freq_factor", "above 4"],
        ),
        ({"rope_parameters": None, "rope_theta": 1}, ["rope_theta", "above 1"]),
        ({"rope_parameters": None, "rope_theta": -1e4}, ["rope_theta", "-10000"]),
        ({"rope_parameters": {"rope_theta": 1e30}}, ["rope_theta", "1e+30"]),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, ["partial_rotary_factor", "'llama'"]),
        ({"hidden_act": "gelu"}, ["hidden_act", "'gelu'"]),
        ({"hidden_size": "big"}, ["hidden_size", "'big'"]),
        ({"num_hidden_layers": -1}, ["num_hidden_layers", "-1"]),
        ({"num_hidden_layers": 60_000}, ["num_hidden_layers", "1 to 1024", "60000"]),
        ({"hidden_size": 10**30}, ["hidden_size", "1 to 1048576"]),
        ({"vocab_size": 2**62}, ["vocab_size", "1 to 1048576"]),
        ({"num_attention_heads": 2**62, "num_key_value_heads": 1}, ["num_attention_heads", "1 to 1048576"]),
        ({"max_position_embeddings": 10**30}, ["max_position_embeddings", "1 to 2147483648"]),
        ({"rms_norm_eps": 10**400}, ["rms_norm_eps"]),
        ({"head_dim": 7}, ["7 dimensions", "even"]),
        ({"head_dim": None, "hidden_size": 36}, ["9 dimensions", "hidden_size", "even"]),
        ({"head_dim": None, "num_attention_heads": 64}, ["64 attention heads", "hidden_size of 32"]),
        ({"num_key_value_heads": 3}, ["4 attention heads", "3 key-value heads"]),
        ({"rms_norm_eps": 0}, ["rms_norm_eps"]),
        ({"tie_word_embeddings": "yes"}, ["tie_word_embeddings", "'yes'"]),
        ({"eos_token_id": "</s>"}, ["eos_token_id", "</s>"]),
        ({"quantization_config": {"quant_method": "gptq"}}, ["gptq", "original"]),
        ({"quantization_config": {"quant_method": "fp8"}}, ["fp8", "original"]),
        ({"quantization_config": "gptq"}, ["gptq", "original"]),
        ({"quantization_config": 5}, ["quantised", "original"]),
        ({"intermediate_size": 40}, ["mlp.down_proj", "shape [32, 48]", "[32, 40]"]),
        ({"num_hidden_layers": 1}, ["unused", "model.layers.1"]),
        ({"num_hidden_layers": 3}, ["missing", "model.layers.2", "more"]),
    ],
)
def test_config_that_does_not_fit(folder: Path, fields: dict[str, Any], words: list[str]) -> None:
    edit_config(folder, **fields)
    refused(folder, *words)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_type": "mixtral", "num_local_experts": 8}, ["'mixtral'", "mixture of experts", "= 8"]),
        ({"num_experts": 128}, ["mixture of experts", "num_experts = 128"]),
        (
            {"model_type": "deepseek_v3", "kv_lora_rank": 512, "n_routed_experts": 256},
            [
                "multi-head latent attention (kv_lora_rank = 512)",
                "mixture of experts (n_routed_experts = 256)",
            ],
        ),
        ({"model_type": "llava", "vision_config": {"a": 1}}, ["vision parts (vision_config = {...})"]),
        ({"audio_config": {"a": 1}}, ["audio parts"]),
        ({"model_type": "gemma2", "final_logit_softcapping": 30.0}, ["capped logits", "30.0"]),
        ({"model_type": "t5", "is_encoder_decoder": True}, ["an encoder"]),
        ({"use_bidirectional_attention": True}, ["attention to later tokens"]),
    ],
)
def test_features_that_no_family_has(folder: Path, fields: dict[str, Any], words: list[str]) -> None:
    """Named before the model_type is looked up, with what is supported."""
    edit_config(folder, **fields)
    refused(folder, *words, "not supported", "sliding-window attention", "llama, mamba")


def test_features_that_are_switched_off(folder: Path) -> None:
    tokens = tiny.tokens(1, 5)
    expected = load_model(folder)(tokens)
    edit_config(folder, num_local_experts=1, num_experts=0, vision_config=None, is_encoder_decoder=False)
    assert torch.equal(load_model(folder)(tokens), expected)


LARGE = 1 << 20


@pytest.mark.parametrize(
    "sizes",
    [
        {"hidden_size": LARGE, "intermediate_size": LARGE, "vocab_size": LARGE},
        {"hidden_size": LARGE, "num_attention_heads": LARGE, "num_key_value_heads": LARGE, "head_dim": LARGE},
    ],
)
def test_the_largest_sizes_are_compared_and_not_allocated(folder: Path, sizes: dict[str, int]) -> None:
    edit_config(folder, **sizes)
    refused(folder, "config.json asks for", str(LARGE))


def test_the_largest_mamba2_is_compared_and_not_allocated(tmp_path: Path) -> None:
    tiny.make("mamba2-1-group", tmp_path)
    sizes = {"hidden_size": LARGE, "expand": 1024, "num_heads": LARGE, "head_dim": 1024, "n_groups": LARGE}
    edit_config(tmp_path, **sizes, state_size=1024, conv_kernel=1024)
    refused(tmp_path, "config.json asks for", str(LARGE))


def test_building_the_shapes_of_a_model_draws_nothing() -> None:
    """On the meta device PyTorch's initial weights cost seconds, most of them for importing sympy."""
    state = torch.get_rng_state()
    with shapes_only():
        layer = torch.nn.Linear(1 << 30, 1 << 30)
    assert layer.weight.is_meta and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("config", "generation", "ends"),
    [
        (2, None, (2,)),
        (2, {"eos_token_id": [7, 2, 5]}, (2, 7, 5)),
        (None, {"eos_token_id": 7}, (7,)),
        (2, {}, (2,)),
    ],
)
def test_end_tokens_of_both_files(folder: Path, config: Any, generation: Any, ends: tuple[int, ...]) -> None:
    edit_config(folder, eos_token_id=config)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    assert load_model(folder).config.eos_token_ids == ends


@pytest.mark.parametrize("text", ["{", '{"eos_token_id": "</s>"}'])
def test_damaged_generation_config(folder: Path, text: str) -> None:
    (folder / "generation_config.json").write_text(text)
    refused(folder, "generation_config.json")


@pytest.mark.parametrize("limit", ["inf", [1.0], [2.0, 1.0], ["a", "b"], [0, 10**400]])
def test_mamba2_time_step_limit(tmp_path: Path, limit: Any) -> None:
    tiny.make("mamba2-1-group", tmp_path)
    edit_config(tmp_path, time_step_limit=limit)
    refused(tmp_path, "time_step_limit")


@pytest.mark.parametrize("limit", [[0.0, float("inf")], [0.0, "inf"], None])
def test_mamba2_time_step_without_end(tmp_path: Path, limit: Any) -> None:
    tiny.make("mamba2-1-group", tmp_path)
    edit_config(tmp_path, time_step_limit=limit)
    assert load_model(tmp_path).config.dt_limit == (0.0, float("inf"))  # type: ignore[attr-defined]


@pytest.mark.parametrize("rope", [{"rope_theta": 77.0}, {"rope_parameters": {"rope_theta": 77.0}}])
def test_rope_theta_old_and_new(folder: Path, rope: dict[str, Any]) -> None:
    edit_config(folder, **({"rope_parameters": None, "rope_scaling": None} | rope))
    assert load_model(folder).config.rope_theta == 77.0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda tensors: tensors.pop(WEIGHT), ["missing", WEIGHT]),
        (lambda tensors: tensors.update(extra=torch.zeros(3)), ["unused", "extra"]),
        (lambda tensors: tensors.update({WEIGHT: torch.zeros(2, 2)}), [WEIGHT, "shape [2, 2]", "[48, 32]"]),
        (lambda tensors: tensors.update({WEIGHT: tensors[WEIGHT].to(torch.int8)}), [WEIGHT, "I8"]),
        (
            lambda tensors: tensors.update({WEIGHT: tensors[WEIGHT].to(torch.float8_e4m3fn)}),
            [WEIGHT, "F8_E4M3"],
        ),
        (lambda tensors: tensors[WEIGHT][3, 3].fill_(float("nan")), [WEIGHT, "NaN"]),
        (lambda tensors: tensors[WEIGHT][3, 3].fill_(float("inf")), [WEIGHT, "infinite"]),
        (
            lambda tensors: tensors.update({WEIGHT: tensors[WEIGHT].double() * 1e300}),
            [WEIGHT, "infinite in torch.float32"],
        ),
    ],
)
def test_tensors_that_do_not_fit(folder: Path, edit: Callable[[Any], object], words: list[str]) -> None:
    edit_tensors(folder, edit)
    refused(folder, *words)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_weights(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    refused(folder, "model.safetensors", "damaged or cut short")


def test_weights_that_are_a_pipe(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    refused(folder, "model.safetensors is not a regular file")


def test_pickles_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, "pickles", "convert them to safetensors")


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    refused(folder, "no weights")


def test_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    refused(folder, "adapter", "merge")


def test_tied_head_may_be_stored_if_equal(tmp_path: Path) -> None:
    tiny.make("llama-tied", tmp_path)
    tokens, expected = tiny.tokens(1, 5), load_model(tmp_path)(tiny.tokens(1, 5))
    edit_tensors(tmp_path, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    model = load_model(tmp_path)
    assert model.head.weight is model.embed.weight and torch.equal(model(tokens), expected)
    edit_tensors(tmp_path, lambda tensors: tensors["lm_head.weight"][0].add_(1))
    refused(tmp_path, "differs from the embedding")


def test_old_llama_buffers_are_ignored(folder: Path) -> None:
    tokens = tiny.tokens(1, 5)
    expected = load_model(folder)(tokens)
    edit_tensors(folder, lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}))
    assert torch.equal(load_model(folder)(tokens), expected)


@pytest.mark.parametrize("name", ["llama", "mamba2-8-groups"])
def test_shards(tmp_path: Path, name: str) -> None:
    """Also with the same weights once more in another layout, as Codestral has them."""
    theirs = tiny.make(name, tmp_path / "one")
    folder, tokens = shards(tmp_path / "many", name), tiny.tokens(1, 9)
    (folder / "consolidated.safetensors").write_bytes(b"not read")
    assert torch.equal(load_model(folder)(tokens), load_model(tmp_path / "one")(tokens))
    torch.testing.assert_close(load_model(folder)(tokens), theirs(tokens).logits, rtol=1e-4, atol=1e-4)


def test_missing_and_truncated_shards(tmp_path: Path) -> None:
    folder = shards(tmp_path)
    first = min(folder.glob("model-*.safetensors"))
    first.write_bytes(first.read_bytes()[:-1])
    refused(folder, first.name, "damaged or cut short")
    first.unlink()
    refused(folder, first.name, "missing")


@pytest.mark.parametrize(
    "shard",
    [
        "../model.safetensors",
        "/etc/model.safetensors",
        "a/b.safetensors",
        "weights.bin",
        "\ud800.safetensors",
    ],
)
def test_an_index_cannot_leave_its_folder(tmp_path: Path, shard: str) -> None:
    folder = shards(tmp_path)
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"][WEIGHT] = shard
    (folder / INDEX).write_text(json.dumps(index))
    refused(folder, INDEX, repr(shard))


@pytest.mark.parametrize("weight_map", [None, [], {"a": 1}])
def test_an_index_without_a_map(tmp_path: Path, weight_map: Any) -> None:
    folder = shards(tmp_path)
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    refused(folder, INDEX, "weight_map")


def test_an_index_that_lies(tmp_path: Path) -> None:
    folder = shards(tmp_path)
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["phantom"] = index["weight_map"][WEIGHT]
    (folder / INDEX).write_text(json.dumps(index))
    refused(folder, "phantom", "does not")
