"""The bundled twins: a Transformer and a Mamba-2 of the same size, trained alike on the same tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from offramp.errors import UnknownName
from offramp.files import write_whole
from offramp.models.base import Model
from offramp.models.checkpoint import load_model, save_model
from offramp.models.families import family_for
from offramp.models.initial import init_weights
from offramp.registry import unknown
from offramp.text import Text
from offramp.training.heldout import heldout
from offramp.training.loop import Limits, Outcome
from offramp.training.pretrain import Phase, PretrainConfig, pretrain
from offramp.training.progress import Callback, ignore
from offramp.zoo.tokenizer import END_OF_TEXT, END_OF_TEXT_ID, VOCABULARY

PARAMETERS = 4_500_000
"""What both have, within 5 %."""

_BOTH: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "num_hidden_layers": 12,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "bos_token_id": END_OF_TEXT_ID,
    "eos_token_id": END_OF_TEXT_ID,
    "hidden_act": "silu",
}

TWINS: dict[str, dict[str, Any]] = {
    "tiny-transformer": _BOTH
    | {
        "model_type": "llama",
        "hidden_size": 160,
        "intermediate_size": 536,
        "num_attention_heads": 5,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-5,
    },
    "tiny-mamba2": _BOTH
    | {
        "model_type": "mamba2",
        "hidden_size": 216,
        "expand": 2,
        "num_heads": 9,
        "head_dim": 48,
        "state_size": 64,
        "n_groups": 1,
        "conv_kernel": 4,
        "chunk_size": 32,
        "layer_norm_epsilon": 1e-5,
    },
}
"""config.json of each, as `transformers` reads it."""

RECIPE = PretrainConfig(
    tokens=6_500_000,
    tokens_per_step=4096,
    tokens_per_backward=1024,
    phases=(Phase(0.25, 0.5, 256), Phase(0.85, 0.23, 256), Phase(1.0, 0.23, 512)),
    exit_share=0.125,
)
"""What the bundled weights were trained with: 45 minutes of two to three CPU cores, 53 of three for the slower twin."""


def build(twin: str, seed: int = 0) -> Model:
    """A twin with first weights. Raises UnknownName for one that does not exist."""
    if twin not in TWINS:
        raise UnknownName(unknown("twin", twin, TWINS))
    family = family_for(TWINS[twin]["model_type"])
    return init_weights(family.build(family.config_from(TWINS[twin])), seed)


def run(
    twin: str,
    corpus: Path,
    out: Path,
    device: torch.device | str = "cpu",
    *,
    config: PretrainConfig | None = None,
    limits: Limits | None = None,
    callback: Callback = ignore,
) -> Outcome:
    """Pretrain a twin on a corpus folder. When the run is finished `out/model` is its checkpoint, in bf16.

    The run's own checkpoints go to `out/run`; the same call continues from there.
    Raises UnknownName for the twin, DataError for the corpus, UsageError for an impossible or other config.
    """
    config = config or RECIPE
    model = build(twin, config.seed)
    outcome = pretrain(model, config, corpus, out / "run", device, limits, callback)
    if outcome.finished:
        save_model(model.to("cpu", torch.bfloat16), out / "model")
        _save_tokenizer(corpus, out / "model")
    return outcome


def measure(folder: Path, corpus: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Held-out numbers of a twin's checkpoint (see `training.heldout`), written to its `heldout.json` too."""
    text = Text.load(folder)
    found = heldout(load_model(folder, device=device), corpus, text.encode, text.decode)
    write_whole(folder / "heldout.json", json.dumps(found, indent=1) + "\n")
    return found


def _save_tokenizer(corpus: Path, folder: Path) -> None:
    """The corpus's tokenizer, which now puts the separator first: so began every training document."""
    tokenizer = Tokenizer.from_file(str(corpus / "tokenizer.json"))
    tokenizer.post_processor = TemplateProcessing(
        single=f"{END_OF_TEXT} $A",
        pair=f"{END_OF_TEXT} $A {END_OF_TEXT} $B",
        special_tokens=[(END_OF_TEXT, END_OF_TEXT_ID)],
    )
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    shutil.copyfile(corpus / "tokenizer_config.json", folder / "tokenizer_config.json")
