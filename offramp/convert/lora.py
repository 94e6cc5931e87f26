"""Merging a LoRA adapter of peft into its model: W + scale B A (arXiv 2106.09685), tensor by tensor.

scale is alpha / r, or alpha / sqrt(r) with rank stabilisation (arXiv 2312.03732). What would need more than that
(DoRA, biases, modules stored whole, base weights changed by the adapter's initialisation) is refused by name.

Letters: r rank, I input width, O output width.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from offramp.convert.source import LazyTensor, Source, lazy_tensors
from offramp.errors import CheckpointError
from offramp.files import SMALL, read_json
from offramp.models.rawconfig import flag, positive_float, positive_int

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
NAME = re.compile(r"base_model\.model\.(?P<module>.{1,256})\.lora_(?P<half>[AB])\.weight")
"""Of a length that bounds how many endings a module's name has."""
PLAIN = re.compile(r"\^?[\w.]+")
"""A pattern that is a module's name or its end: the regular expressions of strangers are not run."""

INITIAL = (None, True, False, "gaussian", "orthogonal", "eva")
"""init_lora_weights that leave the base as it was (pissa, olora, corda and loftq do not)."""
USED = {"peft_type", "r", "lora_alpha", "use_rslora", "target_modules", "fan_in_fan_out", "rank_pattern"}
USED |= {"alpha_pattern", "bias", "init_lora_weights"}
NEUTRAL = {
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "lora_dropout",
    "task_type",
}
NEUTRAL |= {"exclude_modules", "layers_pattern", "layers_to_transform", "megatron_core", "peft_version"}
NEUTRAL |= {"qalora_group_size", "eva_config"}
"""Fields that say nothing of what the finished adapter adds. Any other must be null, false or empty."""

OWN = {"r": "rank_pattern", "lora_alpha": "alpha_pattern"}
"""What a module may have of its own, and the field that says so."""

Patterns = Mapping[str, Mapping[str, tuple[int, Any]]]
"""By key of OWN, by pattern: its place among them, and its value."""


@dataclass(frozen=True)
class Adapter:
    """A `[r, I]` and B `[O, r]` of every module, by its name in the model."""

    path: Path
    halves: Mapping[str, tuple[LazyTensor, LazyTensor]]
    scales: Mapping[str, float]
    fan_in_fan_out: bool


def read_adapter(folder: Path) -> Adapter:
    """The adapter in `folder`. Raises CheckpointError naming what is missing, damaged or not supported."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} is no LoRA adapter of peft in safetensors: it has no {name}")
    config = read_json(folder / CONFIG, SMALL, CheckpointError)
    _refuse(config, folder / CONFIG)
    halves = _halves(folder / WEIGHTS)
    _check_targets(config, list(halves), folder / CONFIG)
    patterns = {key: _patterns(config, field) for key, field in OWN.items()}
    scales = {module: _scale(config, patterns, module, first) for module, (first, _) in halves.items()}
    return Adapter(folder / WEIGHTS, halves, scales, flag(config, "fan_in_fan_out", False))


def merge(source: Source, adapter: Adapter) -> Source:
    """The model with the adapter in its weights, which keep their types; without exits, for it is another model.

    Raises CheckpointError for a module that the model does not have, or has in another shape.
    """
    if source.config.get("tie_word_embeddings") and "lm_head" in adapter.halves:
        raise CheckpointError(f"{adapter.path} changes lm_head, which this model shares with its embedding")
    tensors = dict(source.tensors)
    for module in adapter.halves:
        name = f"{module}.weight"
        if name not in tensors:
            raise CheckpointError(f"{adapter.path} changes {module}, which this model does not have")
        tensors[name] = _merged(name, tensors[name], adapter, module)
    return replace(source, tensors=tensors).without_exits()


def _merged(name: str, base: LazyTensor, adapter: Adapter, module: str) -> LazyTensor:
    first, second = adapter.halves[module]
    delta = (second.shape[0], first.shape[1])
    if (delta[::-1] if adapter.fan_in_fan_out else delta) != base.shape:
        raise CheckpointError(
            f"{adapter.path} has a change of {list(delta)} for {name} of {list(base.shape)}"
        )

    def read() -> Tensor:
        added_OI = second.read().float() @ first.read().float() * adapter.scales[module]
        added = added_OI.T if adapter.fan_in_fan_out else added_OI
        return (base.read().float() + added).to(base.dtype)

    return replace(base, read=read)


def _refuse(config: Mapping[str, Any], path: Path) -> None:
    """Whatever this merge would leave out."""
    said = str(config.get("peft_type"))
    if said.upper() != "LORA":
        raise CheckpointError(f"{path}: peft_type {said} is not supported, only LORA")
    if config.get("bias", "none") != "none":
        raise CheckpointError(f"{path}: bias = {config['bias']!r} is not supported, only 'none'")
    if config.get("init_lora_weights") not in INITIAL:
        raise CheckpointError(
            f"{path}: init_lora_weights = {config['init_lora_weights']!r} changes the base model's own weights;"
            " merge it where it was trained (peft: merge_and_unload)"
        )
    for name in sorted(config.keys() - USED - NEUTRAL):
        if config[name]:
            raise CheckpointError(
                f"{path}: {name} = {config[name]!r} is not supported; it can only be absent"
            )


def _halves(path: Path) -> dict[str, tuple[LazyTensor, LazyTensor]]:
    found: dict[str, dict[str, LazyTensor]] = {}
    for name, tensor in lazy_tensors(path).items():
        match = NAME.fullmatch(name)
        if match is None or len(tensor.shape) != 2 or not tensor.dtype.is_floating_point:
            raise CheckpointError(
                f"{path}: tensor {name} is no half of a LoRA matrix, and nothing else is known"
            )
        found.setdefault(match["module"], {})[match["half"]] = tensor
    if not found:
        raise CheckpointError(f"{path} holds no tensors")
    for module, halves in found.items():
        if set(halves) != {"A", "B"} or halves["A"].shape[0] != halves["B"].shape[1]:
            raise CheckpointError(f"{path}: the two matrices of {module} are not both there, or of two ranks")
    return {module: (halves["A"], halves["B"]) for module, halves in found.items()}


def _check_targets(config: Mapping[str, Any], modules: list[str], path: Path) -> None:
    """A list of targets and the tensors must agree; one written as an expression is the tensors' matter."""
    targets = config.get("target_modules")
    if not isinstance(targets, list):
        return
    if not all(isinstance(target, str) for target in targets):
        raise CheckpointError(f"{path}: target_modules must hold names, not {targets!r}")
    endings = {module: _endings(module) for module in modules}
    known, wanted = set().union(*endings.values()), set(targets)
    for target in targets:
        if target not in known:
            raise CheckpointError(f"{path} names the target {target!r}, for which {WEIGHTS} has no tensor")
    for module in modules:
        if wanted.isdisjoint(endings[module]):
            raise CheckpointError(f"{path}: {module} of {WEIGHTS} is none of its target_modules")


def _endings(module: str) -> set[str]:
    """Every name that means this module: its own, and what follows a dot in it."""
    parts = module.split(".")
    return {".".join(parts[start:]) for start in range(len(parts))}


def _scale(config: Mapping[str, Any], patterns: Patterns, module: str, first: LazyTensor) -> float:
    """What the product of one module is multiplied by, from its own rank and alpha."""
    own = {key: _own(config, key, patterns, module) for key in OWN}
    rank, alpha = positive_int(own, "r", 8), positive_float(own, "lora_alpha", 8.0)
    if rank != first.shape[0]:
        raise CheckpointError(f"{CONFIG} gives {module} rank {rank}, its tensors have {first.shape[0]}")
    return alpha / (math.sqrt(rank) if flag(dict(config), "use_rslora", False) else rank)


def _patterns(config: Mapping[str, Any], field: str) -> dict[str, tuple[int, Any]]:
    """Each pattern's place among them, and its value."""
    given = config.get(field) or {}
    if not isinstance(given, dict):
        raise CheckpointError(f"{CONFIG}: {field} must be an object, not {given!r}")
    for pattern in given:
        if not PLAIN.fullmatch(pattern):
            raise CheckpointError(f"{CONFIG}: {field} has {pattern!r}; only names of modules are supported")
    return {pattern: (place, value) for place, (pattern, value) in enumerate(given.items())}


def _own(config: Mapping[str, Any], key: str, patterns: Patterns, module: str) -> Any:
    """The value for this module: that of the first pattern that names it, else the common one."""
    naming = patterns[key].keys() & {f"^{module}", *_endings(module)}
    return min(patterns[key][name] for name in naming)[1] if naming else config.get(key)
