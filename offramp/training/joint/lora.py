"""Low-rank changes of the linear maps in a model's blocks, made by peft (LoRA, arXiv 2106.09685)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from offramp.data.extras import extra
from offramp.errors import UsageError
from offramp.models.base import Family, Model
from offramp.training.joint.config import JointConfig

TARGETS = (
    *("q_proj", "k_proj", "v_proj", "o_proj"),  # attention
    *("gate_proj", "up_proj", "down_proj"),  # MLP
    *("in_proj", "x_proj", "out_proj"),  # Mamba
)


def add_lora(model: Model, config: JointConfig) -> None:
    """Freeze the model and give the targets in its blocks low-rank changes, zero at first, that learn.

    Raises UsageError where peft is missing, and naming a target that the model does not have.
    """
    peft = extra("peft", "train", "A lora_rank above 0")
    settings = peft.LoraConfig(
        r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=list(targets_in(model, config))
    )
    model.requires_grad_(False)
    # The blocks, not the model: peft judges a model_type "mamba2" by kernels that are not ours.
    peft.inject_adapter_in_model(settings, model.blocks)


def targets_in(model: Model, config: JointConfig) -> tuple[str, ...]:
    """The names of linear maps that are to be changed: those asked for, or those of TARGETS that there are."""
    there = {
        name.rpartition(".")[2] for name, part in model.blocks.named_modules() if isinstance(part, nn.Linear)
    }
    if missing := sorted(set(config.lora_targets) - there):
        raise UsageError(
            f"the model has no linear map {missing[0]!r} in its blocks: {', '.join(sorted(there))}"
        )
    return config.lora_targets or tuple(name for name in TARGETS if name in there)


def merge_lora(model: Model) -> None:
    """Add the changes to the weights; the model has its own modules again."""
    for parent, attribute, layer in list(_layers(model)):
        layer.merge()
        setattr(parent, attribute, layer.get_base_layer())


def adapter_files(model: Model, family: Family, config: JointConfig) -> dict[str, str | bytes]:
    """The adapter in peft's files, by their names; none where the checkpoint's tensors are not one to one ours."""
    if type(family).join is not Family.join:
        return {}
    tensors: dict[str, Tensor] = {}
    names = {id(part): name for name, part in model.named_modules()}
    for _, _, layer in _layers(model):
        theirs = family.weight_name(f"{names[id(layer)]}.weight").removesuffix(".weight")
        for half in ("lora_A", "lora_B"):
            weight = getattr(layer, half)["default"].weight.detach().cpu()
            tensors[f"base_model.model.{theirs}.{half}.weight"] = weight.contiguous()
    targets = sorted({name.split(".")[-3] for name in tensors})
    said = {
        "peft_type": "LORA",
        "r": config.lora_rank,
        "lora_alpha": config.lora_alpha,
        "target_modules": targets,
        "bias": "none",
        "task_type": "CAUSAL_LM",
    }
    return {
        "adapter_config.json": json.dumps(said, indent=1) + "\n",
        "adapter_model.safetensors": save(tensors, {"format": "pt"}),
    }


def _layers(model: Model) -> Iterator[tuple[nn.Module, str, Any]]:
    """Every changed map: the module it is in, its name there, and itself."""
    for parent in model.modules():
        for attribute, part in parent.named_children():
            if hasattr(part, "lora_A") and hasattr(part, "get_base_layer"):
                yield parent, attribute, part
