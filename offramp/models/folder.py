"""Where a checkpoint lies, and whether this package can read what lies there.

A folder in Hugging Face's layout, or a hub id `org/name`. Of that only configuration, tokenizer, exits and
the safetensors named `model*` are downloaded: `consolidated*` holds the same weights once more.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import huggingface_hub  # its parts come when they are first used: folders need none

from offramp.errors import CheckpointError
from offramp.files import SMALL, read_json
from offramp.models.rawconfig import token_ids

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
OURS = "offramp"
"""What quantised weights that this package wrote are called in config.json."""
WANTED = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "model*.safetensors",
    "model.safetensors.index.json",
    "exits/*",
)


def local_folder(source: str | Path, revision: str | None = None) -> Path:
    """The local folder of `source`, downloaded first if it is no path but a hub id.

    Raises CheckpointError where there is no such folder and no such model can be fetched.
    """
    path = Path(source)
    if path.is_dir():
        return path
    if path.exists():
        raise CheckpointError(
            f"{path} is a file: give the folder that holds config.json and model.safetensors"
        )
    if not HUB_ID.fullmatch(str(source)):
        raise CheckpointError(
            f"there is no folder {str(source)!r} (and a Hugging Face id looks like org/name)"
        )
    try:
        return Path(
            huggingface_hub.snapshot_download(str(source), revision=revision, allow_patterns=list(WANTED))
        )
    except (OSError, ValueError) as error:  # the hub's own errors are among the system's
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"there is no folder {str(source)!r}, and as a Hugging Face id it could not be fetched: {reason}"
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a folder that can be loaded; its eos_token_id counts generation_config.json's in.

    Raises CheckpointError, saying what to do instead, for no checkpoint, an adapter and quantised weights.
    """
    if (folder / "adapter_config.json").exists():
        raise CheckpointError(
            f"{folder} holds an adapter: merge it into its base model: `offramp convert BASE OUT --lora {folder}`"
        )
    if not (folder / "config.json").exists():
        raise CheckpointError(f"{folder} is not a checkpoint: it has no config.json")
    raw = read_json(folder / "config.json", SMALL, CheckpointError)
    quantised = raw.get("quantization_config")
    method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
    if quantised and method != OURS:
        raise CheckpointError(
            f"{folder} holds quantised weights ({method}): use the original float32, float16 or bfloat16 ones"
        )
    if not isinstance(raw.get("model_type"), str):
        raise CheckpointError(f"{folder / 'config.json'} has no model_type{_original_mamba(raw)}")
    return raw | {"eos_token_id": _end_tokens(raw, folder / "generation_config.json")}


def _end_tokens(raw: dict[str, Any], generation: Path) -> list[int]:
    """The ids of config.json, then those that only generation_config.json has (for chat models, often)."""
    ids = token_ids(raw, "eos_token_id")
    if generation.exists():
        more = read_json(generation, SMALL, CheckpointError)
        ids += token_ids(more, "eos_token_id", generation.name)
    return list(dict.fromkeys(ids))


MAMBA_SIZES = {"768x24": "130m", "1024x48": "370m", "1536x48": "790m", "2048x48": "1.4b", "2560x64": "2.8b"}
"""d_model x n_layer of state-spaces/mamba-*."""


def _original_mamba(raw: dict[str, Any]) -> str:
    """What to load instead of a checkpoint of the original Mamba code."""
    mixer = raw.get("ssm_cfg")
    if not isinstance(mixer, dict) or "d_model" not in raw:
        return ""
    if mixer.get("layer", "Mamba1") != "Mamba1":
        other = "a copy of it in Hugging Face's layout, AntonV/mamba2-130m-hf for one"
    else:
        size = MAMBA_SIZES.get(f"{raw['d_model']}x{raw.get('n_layer')}")
        other = f"state-spaces/mamba-{size}-hf" if size else "a copy of it such as state-spaces/mamba-130m-hf"
    return f": it belongs to the original Mamba code, whose weights are pickles. Use {other} instead"
