"""W + scale B A, by hand; and everything that this formula would get wrong is refused by name."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from offramp.convert.lora import CONFIG, WEIGHTS, merge, read_adapter
from offramp.convert.source import Source, from_folder
from offramp.convert.write import write_folder
from offramp.errors import CheckpointError
from offramp.models.checkpoint import load_model
from offramp.models.tensors import SINGLE
from tests.convert.test_write import lazy
from tests.models import tiny

Q, V = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.v_proj"


def halves(module: str, rank: int, inner: int, outer: int, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    name = f"base_model.model.{module}.lora"
    return {f"{name}_A.weight": torch.randn(rank, inner), f"{name}_B.weight": torch.randn(outer, rank)}


BOTH = halves(Q, 4, 32, 32) | halves(V, 4, 32, 16, seed=1)
PLAIN = {
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 6,
    "target_modules": ["q_proj", "v_proj"],
    "bias": "none",
    "init_lora_weights": True,
    "lora_dropout": 0.1,
    "task_type": "CAUSAL_LM",
    "use_dora": False,
    "modules_to_save": None,
    "qalora_group_size": 16,
}


def adapter(folder: Path, tensors: dict[str, Tensor] | None = None, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(PLAIN | changes))
    save_file(BOTH if tensors is None else tensors, folder / WEIGHTS)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    tiny.make("llama", folder)
    return folder


def merged(base: Path, folder: Path) -> dict[str, Tensor]:
    source = merge(from_folder(base), read_adapter(folder))
    return {name: tensor.read() for name, tensor in source.tensors.items()}


def by_hand(base: dict[str, Tensor], module: str, scale: float, tensors: dict[str, Tensor] = BOTH) -> Tensor:
    name = f"base_model.model.{module}.lora"
    first, second = tensors[f"{name}_A.weight"].double(), tensors[f"{name}_B.weight"].double()
    added = torch.zeros(second.shape[0], first.shape[1], dtype=torch.float64)
    for i in range(added.shape[0]):
        for j in range(added.shape[1]):
            added[i, j] = sum(second[i, k] * first[k, j] for k in range(first.shape[0]))
    return base[f"{module}.weight"].double() + scale * added


@pytest.mark.parametrize(
    ("changes", "q_scale", "v_scale"),
    [
        ({}, 6 / 4, 6 / 4),
        ({"use_rslora": True}, 6 / math.sqrt(4), 6 / math.sqrt(4)),
        ({"alpha_pattern": {"q_proj": 1}}, 1 / 4, 6 / 4),
        ({"alpha_pattern": {"layers.1.self_attn.v_proj": 2, "v_proj": 9}}, 6 / 4, 2 / 4),
        ({"alpha_pattern": {"^self_attn.q_proj": 9, f"^{Q}": 2}}, 2 / 4, 6 / 4),
        ({"rank_pattern": {"_proj": 9}, "target_modules": "all-linear"}, 6 / 4, 6 / 4),
        ({"r": 9, "rank_pattern": {"self_attn.q_proj": 4, "v_proj": 4}}, 6 / 4, 6 / 4),
    ],
)
def test_merged_as_by_hand(
    changes: dict[str, Any], q_scale: float, v_scale: float, llama: Path, tmp_path: Path
) -> None:
    base, after = load_file(llama / SINGLE), merged(llama, adapter(tmp_path / "adapter", **changes))
    assert after.keys() == base.keys()
    for module, scale in ((Q, q_scale), (V, v_scale)):
        assert torch.allclose(after[f"{module}.weight"].double(), by_hand(base, module, scale), atol=1e-5)
    rest = base.keys() - {f"{Q}.weight", f"{V}.weight"}
    assert all(torch.equal(after[name], base[name]) for name in rest)


def test_weights_stored_the_other_way_round(tmp_path: Path) -> None:
    """Conv1D of GPT-2 stores `[input, output]`."""
    base = torch.randn(6, 10)
    tensors = halves("h.0.attn", 2, 6, 10)
    folder = adapter(
        tmp_path / "adapter", tensors, r=2, fan_in_fan_out=True, target_modules=["attn"], lora_alpha=2
    )
    after = merge(Source({}, {"h.0.attn.weight": lazy(base)}, {}), read_adapter(folder))
    expected = by_hand({"h.0.attn.weight": base.T}, "h.0.attn", 1.0, tensors).T
    assert torch.allclose(after.tensors["h.0.attn.weight"].read().double(), expected, atol=1e-5)


@torch.inference_mode()
def test_the_merged_model_computes_base_plus_adapter(llama: Path, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter")
    write_folder(merge(from_folder(llama), read_adapter(folder)), tmp_path / "merged")
    model, whole = load_model(llama), load_model(tmp_path / "merged")
    tokens = tiny.tokens(2, 9)
    before = model(tokens)
    for name, target in ((Q, model.blocks[0].mixer.q_proj), (V, model.blocks[1].mixer.v_proj)):
        first, second = (BOTH[f"base_model.model.{name}.lora_{half}.weight"] for half in "AB")

        def add(
            _: object, given: tuple[Tensor], out: Tensor, a: Tensor = first, b: Tensor = second
        ) -> Tensor:
            return out + given[0] @ a.T @ b.T * 1.5

        target.register_forward_hook(add)
    expected = model(tokens)
    assert (whole(tokens) - expected).abs().max() < 1e-4 * expected.abs().max()
    assert (before - expected).abs().max() > 1e-2 * expected.abs().max()


def test_types_stay_and_exits_go(tmp_path: Path) -> None:
    tensors = halves("a", 4, 8, 8)
    base = torch.randn(8, 8).bfloat16()
    source = Source({}, {"a.weight": lazy(base)}, {"exits/x/exits.json": "{}", "tokenizer.json": "{}"})
    after = merge(source, read_adapter(adapter(tmp_path / "adapter", tensors, target_modules=["a"])))
    assert set(after.files) == {"tokenizer.json"}
    expected = by_hand({"a.weight": base}, "a", 1.5, tensors).float().bfloat16()
    assert torch.equal(after.tensors["a.weight"].read(), expected)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"lora_bias": True}, "lora_bias"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"target_parameters": ["experts"]}, "target_parameters"),
        ({"something_new": 3}, "something_new"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"peft_type": None}, "peft_type"),
        ({"r": 5}, "rank 5"),
        ({"r": -1}, "r must be"),
        ({"lora_alpha": "much"}, "lora_alpha"),
        ({"rank_pattern": {"(a+)+": 4}}, "only names"),
        ({"rank_pattern": [3]}, "rank_pattern"),
        ({"rank_pattern": {"q_proj": 5}}, "rank 5"),
        ({"target_modules": ["q_proj"]}, "v_proj"),
        ({"target_modules": ["q_proj", "v_proj", "o_proj"]}, "o_proj"),
        ({"target_modules": [3]}, "names"),
        ({"fan_in_fan_out": True}, r"\[16, 32\]"),
        ({"fan_in_fan_out": "yes"}, "fan_in_fan_out"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], said: str, llama: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=said):
        merge(from_folder(llama), read_adapter(adapter(tmp_path / "adapter", **changes)))


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({}, "no tensors"),
        (BOTH | {"base_model.model.model.norm.weight": torch.ones(3)}, "model.norm"),
        (BOTH | {f"base_model.model.{Q}.lora_magnitude_vector": torch.ones(3)}, "magnitude"),
        (halves("lm_head", 4, 32, 61) | BOTH, "lm_head of"),
        ({name: BOTH[name] for name in list(BOTH)[1:]}, "not both"),
        (BOTH | {f"base_model.model.{Q}.lora_A.weight": torch.ones(3, 32)}, "two ranks"),
        (BOTH | {f"base_model.model.{Q}.lora_A.weight": torch.ones(4, 32, 1)}, "no half"),
        (BOTH | {f"base_model.model.{Q}.lora_A.weight": torch.ones(4, 31)}, "change of"),
        (BOTH | halves("model.layers.2.self_attn.q_proj", 4, 32, 32), "does not have"),
    ],
)
def test_tensors_that_are_refused(tensors: dict[str, Tensor], said: str, llama: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=said):
        merge(from_folder(llama), read_adapter(adapter(tmp_path / "adapter", tensors)))


def test_the_time_of_many_modules_and_patterns_adds_up(tmp_path: Path) -> None:
    """It is not their product, which two files of a megabyte would make an hour of."""
    count = 3000
    tensors = {
        f"base_model.model.m{i}.lora_{half}.weight": torch.zeros(1, 0) if half == "A" else torch.zeros(0, 1)
        for i in range(count)
        for half in "AB"
    }
    names = [f"m{i}" for i in range(count)]
    patterns = {f"x{i}": 9 for i in range(count)} | dict.fromkeys(names, 1)
    start = time.process_time()
    found = read_adapter(adapter(tmp_path / "a", tensors, target_modules=names, rank_pattern=patterns))
    assert len(found.scales) == count and time.process_time() - start < 5


def test_no_adapter_and_a_head_that_is_shared(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="adapter_config.json"):
        read_adapter(tmp_path)
    folder = adapter(tmp_path / "a", halves("lm_head", 4, 8, 8), target_modules=["lm_head"])
    with pytest.raises(CheckpointError, match="shares with its embedding"):
        merge(Source({"tie_word_embeddings": True}, {}, {}), read_adapter(folder))
