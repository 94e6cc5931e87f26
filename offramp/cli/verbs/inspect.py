"""`offramp inspect`: what a checkpoint is made of."""

from __future__ import annotations

from offramp.cli.data_options import Data
from offramp.cli.options import Where
from offramp.errors import UsageError


def inspect(
    model: str,
    /,
    *,
    json: bool = False,
    quality: bool = False,
    data: Data | None = None,
    where: Where | None = None,
) -> None:
    """Say what a checkpoint is made of: family, blocks, exits, where the bytes are, what leaving saves.

    Parameters
    ----------
    model
        A checkpoint folder or a Hugging Face hub id.
    json
        One JSON object on stdout instead of tables.
    quality
        Instead: what bf16, int8 and int4 cost, in bits per byte and in how often they choose what f32 chooses, on
        --data or on the prompts that come with offramp. On the CPU.
    """
    if quality:
        from offramp.cli import precision

        precision.run(model, data, json, where or Where())
        return
    if data is not None:
        raise UsageError("--data is what --quality is measured on: give both, or neither.")
    from offramp.cli import inspection

    inspection.run(model, json, where or Where())
