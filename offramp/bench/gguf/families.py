"""Which families have a GGUF, and writing it from a checkpoint."""

from __future__ import annotations

from pathlib import Path

from offramp.bench.gguf import attention_models, mamba_models
from offramp.bench.gguf.convert import write_model
from offramp.bench.gguf.kinds import PLAIN, Kind
from offramp.errors import CheckpointError
from offramp.models.checkpoint import load_model

WRITERS = {
    **dict.fromkeys(attention_models.ARCHITECTURES, attention_models.written),
    "mamba": mamba_models.written_mamba,
    "mamba2": mamba_models.written_mamba2,
}
"""By model_type."""


def write_checkpoint(folder: Path, path: Path, kind: Kind, max_len: int) -> int:
    """The bytes of weights that a token reads. Raises CheckpointError for a family that is not written."""
    model = load_model(folder, dtype=PLAIN.get(kind, PLAIN[Kind.F32]))
    name = model.config.model_type
    if name not in WRITERS:
        raise CheckpointError(f"no GGUF is written of {name}, only of {', '.join(WRITERS)}")
    return write_model(model, WRITERS[name](model, max_len), path, kind)
