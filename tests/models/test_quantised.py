"""Quantised models: which matrices are, what they take, that they are kept and named apart from what they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from offramp.errors import CheckpointError
from offramp.models.base import Model
from offramp.models.checkpoint import fingerprint, load_model, save_model
from offramp.models.families import all_families, family_for
from offramp.models.fingerprint import weights_digest
from offramp.models.initial import init_weights
from offramp.models.likeness import likeness
from offramp.models.quantised import (
    Bits,
    bits_of,
    formats_of,
    left_out,
    number_format,
    plain,
    quantise_weights,
)
from offramp.native.quantised_weight import QuantisedWeight
from offramp.native.structures import I4, I8

TIED = dict(
    model_type="llama",
    vocab_size=96,
    hidden_size=32,
    intermediate_size=80,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)
MAMBA = dict(model_type="mamba", vocab_size=96, hidden_size=32, state_size=8, num_hidden_layers=2)


def written(folder: Path, raw: dict[str, object], dtype: torch.dtype = torch.float32) -> Path:
    family = family_for(str(raw["model_type"]))
    save_model(init_weights(family.build(family.config_from(dict(raw))), 0).to(dtype), folder)
    return folder


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("tied"), TIED)


def kept(model: Model) -> dict[str, str]:
    """By name, how each parameter is kept."""
    return {
        name: weight.quantised.name if isinstance(weight, QuantisedWeight) else str(weight.dtype)[6:]
        for name, weight in model.named_parameters()
    }


def size(model: nn.Module) -> int:
    return sum(weight.nbytes for weight in model.parameters())


def mapped(file: Path) -> list[range]:
    """Where this process has the file in its memory."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    ends = [line.split()[0].split("-") for line in lines if line.endswith(str(file))]
    return [range(int(begin, 16), int(end, 16)) for begin, end in ends]


def test_matrices_are_quantised_and_vectors_are_not(tied: Path) -> None:
    found = kept(load_model(tied, dtype=Bits.INT8))
    vectors = {name for name in found if "norm" in name}
    assert vectors and {found[name] for name in vectors} == {"float32"}
    assert {found[name] for name in found.keys() - vectors} == {"int8"}


def test_four_bits_leave_the_first_and_the_last_map_eight(tied: Path) -> None:
    found = kept(load_model(tied, dtype=Bits.INT4))
    assert found["embed.weight"] == "int8" and found["blocks.1.mlp.up_proj.weight"] == "int4"


def test_what_recurs_keeps_its_precision(tmp_path: Path) -> None:
    model = load_model(written(tmp_path, MAMBA, torch.bfloat16), dtype=Bits.INT8)
    found = kept(model)
    floats = {
        name.rpartition("mixer.")[2] for name, how in found.items() if how == "float32" and "mixer" in name
    }
    assert floats == {"conv1d.weight", "conv1d.bias", "A_log", "D", "dt_proj.bias", "dt_proj.weight"}
    assert left_out(model) == tuple(f"blocks.{i}.mixer.dt_proj" for i in range(2)), "rows of 2, padded to 64"


def test_a_tied_head_is_the_embedding_still(tied: Path) -> None:
    model = load_model(tied, dtype=Bits.INT8)
    assert model.head.weight is model.embed.weight
    ids = torch.tensor([[5, 95, 5]])
    weight = model.head.weight
    assert isinstance(weight, QuantisedWeight)
    assert torch.equal(model.embed(ids), weight.quantised.dequantised()[ids])


def test_less_memory_than_half(tied: Path) -> None:
    whole, eight, four = (load_model(tied, dtype=dtype) for dtype in (torch.float32, Bits.INT8, Bits.INT4))
    assert size(four) < size(eight) < 0.6 * size(whole)  # rows of 32 are padded to 64 here
    assert [number_format(model) for model in (whole, eight, four)] == ["float32", "int8", "int4"]
    assert [bits_of(model) for model in (whole, eight, four)] == [None, Bits.INT8, Bits.INT4]


@pytest.mark.parametrize("bits", Bits)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_is_made_of_what_is_stored(tmp_path: Path, bits: Bits, dtype: torch.dtype) -> None:
    folder = written(tmp_path, TIED, dtype)
    once, after = load_model(folder, dtype=bits), load_model(folder)
    quantise_weights(after, bits)
    assert weights_digest(once) == weights_digest(after)


def test_names_of_weights(tied: Path, tmp_path: Path) -> None:
    """Another fingerprint than the original's, which it remembers, and which is the same in every float format."""
    whole, eight, four = (load_model(tied, dtype=dtype) for dtype in (torch.float32, Bits.INT8, Bits.INT4))
    assert len({fingerprint(model) for model in (whole, eight, four)}) == 3
    assert (
        eight.origin
        == four.origin
        == fingerprint(whole)
        == fingerprint(load_model(tied, dtype=torch.bfloat16))
    )
    assert len({weights_digest(model) for model in (whole, eight, four)}) == 3
    assert whole.origin is None
    assert likeness(whole.blocks[0]) != likeness(eight.blocks[0]) != likeness(four.blocks[0])
    weight = eight.blocks[0].mixer.q_proj.weight
    weight.quantised.numbers[0, 0] += 1
    assert weights_digest(eight) != weights_digest(load_model(tied, dtype=Bits.INT8))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="where files are mapped is Linux's to tell")
@pytest.mark.parametrize("bits", Bits)
def test_saved_and_mapped(tied: Path, tmp_path: Path, bits: Bits) -> None:
    model = load_model(tied, dtype=bits)
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert (weights_digest(again), again.origin) == (weights_digest(model), model.origin)
    assert fingerprint(again) == fingerprint(model) and again.head.weight is again.embed.weight
    file = (tmp_path / "model.safetensors").stat().st_size
    pages = mapped(tmp_path / "model.safetensors")
    for part in plain(dict(again.named_parameters())).values():
        assert any(part.data_ptr() in page for page in pages), "in the file's pages, not copied out of them"
    assert file < size(model) + (1 << 14)
    assert torch.equal(model(torch.tensor([[1, 2, 3]])), again(torch.tensor([[1, 2, 3]])))


def test_a_quantised_folder_is_loaded_as_it_is_or_not_at_all(tied: Path, tmp_path: Path) -> None:
    save_model(load_model(tied, dtype=Bits.INT8), tmp_path)
    assert bits_of(load_model(tmp_path, dtype=Bits.INT8)) == Bits.INT8
    for other in (torch.bfloat16, Bits.INT4):
        with pytest.raises(CheckpointError, match="holds int8 weights: load them as they are"):
            load_model(tmp_path, dtype=other)
    with pytest.raises(CheckpointError, match="run on the CPU only"):
        load_model(tmp_path, device="cuda")


def _without(tensors: dict, config: dict) -> None:
    del tensors["blocks.0.mixer.q_proj.weight.scales"]


def _added(tensors: dict, config: dict) -> None:
    tensors["lm_head.weight"] = torch.zeros(3)


def _short(tensors: dict, config: dict) -> None:
    tensors["embed.weight.numbers"] = tensors["embed.weight.numbers"][:, :32].contiguous()


def _wide(tensors: dict, config: dict) -> None:
    tensors["embed.weight.numbers"] = tensors["embed.weight.numbers"].int()


def _unsound(tensors: dict, config: dict) -> None:
    tensors["embed.weight.scales"][3, 0] = torch.inf


def _coarser(tensors: dict, config: dict) -> None:
    config["quantization_config"]["format"] = "int2"


def _homeless(tensors: dict, config: dict) -> None:
    del config["quantization_config"]["origin"]


def _foreign(tensors: dict, config: dict) -> None:
    config["quantization_config"]["quant_method"] = "gptq"


def _finer(tensors: dict, config: dict) -> None:
    config["quantization_config"]["format"] = "int4"


@pytest.mark.parametrize(
    "damage, said",
    [
        (_without, "missing in the checkpoint: blocks.0.mixer.q_proj.weight.scales"),
        (_added, "unused in the checkpoint: lm_head.weight"),
        (_short, r"embed.weight.numbers is torch.int8 of shape \[96, 32\]"),
        (_wide, "embed.weight.numbers is torch.int32"),
        (_unsound, "embed.weight.scales holds NaN or infinite"),
        (_coarser, "int8 or int4, not 'int2'"),
        (_homeless, "must have an origin"),
        (_foreign, r"quantised weights \(gptq\)"),
        (_finer, "torch.int8 of shape"),
    ],
)
def test_damage_is_named(tied: Path, tmp_path: Path, damage, said: str) -> None:
    save_model(load_model(tied, dtype=Bits.INT8), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    config = json.loads((tmp_path / "config.json").read_text())
    damage(tensors, config)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=said):
        load_model(tmp_path)


def test_weights_that_are_not_finite_are_named(tied: Path) -> None:
    model = load_model(tied)
    with torch.no_grad():
        model.blocks[1].mlp.up_proj.weight[0, 0] = torch.nan
    with pytest.raises(CheckpointError, match="blocks.1.mlp.up_proj.weight"):
        quantise_weights(model, Bits.INT8)


def test_only_plain_linear_maps_and_the_embedding(tied: Path) -> None:
    """What is quantised is what products are made with; a map of one row is a vector."""

    class Twice(nn.Linear):
        pass

    layers = nn.ModuleDict({"wide": nn.Linear(64, 3), "one": nn.Linear(64, 1), "other": Twice(64, 3)})
    layers["table"] = nn.Embedding(5, 64)
    assert formats_of(layers, Bits.INT8) == {"wide.weight": I8}
    assert formats_of(layers, Bits.INT4) == {"wide.weight": I8}, "exits keep eight"
    assert set(formats_of(load_model(tied), Bits.INT4).values()) == {I8, I4}


@pytest.mark.parametrize("name", sorted(name for family in all_families() for name in family.model_types))
def test_every_family_can_be(name: str, tmp_path: Path) -> None:
    """Kept and mapped, it says what it said; and nearly what float32 says."""
    raw = TIED | MAMBA | dict(model_type=name, num_heads=4, head_dim=16, expand=2, intermediate_size=64)
    raw |= dict(n_embd=32, n_layer=2, n_head=4, layer_types=None, tie_word_embeddings=False)
    raw |= dict(time_step_rank=2, attn_layer_indices=[1], mamba_n_heads=4, mamba_d_head=16, mamba_d_state=16)
    raw |= dict(n_groups=1, mamba_n_groups=1, max_position_embeddings=128)
    raw.pop("hidden_act", None)
    whole = load_model(written(tmp_path / "whole", raw))
    model = load_model(tmp_path / "whole", dtype=Bits.INT8)
    save_model(model, tmp_path / "small")
    tokens = torch.tensor([[1, 2, 3, 50, 60]])
    with torch.inference_mode():
        said = model(tokens)
        assert torch.equal(said, load_model(tmp_path / "small")(tokens))
        error = (said - whole(tokens)).abs().max() / whole(tokens).abs().max()
    assert 0 < error < 0.1
