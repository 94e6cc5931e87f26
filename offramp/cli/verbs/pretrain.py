"""`offramp pretrain`: one of the bundled twins, from scratch."""

from __future__ import annotations

from pathlib import Path

from offramp.cli.options import Device, Dtype, Where


def pretrain(
    twin: str,
    /,
    *,
    corpus: Path,
    out: Path,
    tokens: int | None = None,
    max_seconds: float | None = None,
    device: Device = "cpu",
    dtype: Dtype = "bf16",
) -> int:
    """Train a bundled twin from scratch, so that it can be left early. The same command resumes.

    Parameters
    ----------
    twin
        tiny-transformer or tiny-mamba2.
    corpus
        What `python -m offramp.zoo.corpus` wrote.
    out
        Checkpoints go to OUT/run, the finished model to OUT/model.
    tokens
        How many to read in all. [default: the recipe's]
    max_seconds
        Stop in good order after so long.
    device
        auto is cuda where there is one.
    dtype
        Of the arithmetic; the weights that are trained are always f32.
    """
    from offramp.cli.training import pretrain_twin

    return pretrain_twin(twin, corpus, out, tokens, max_seconds, Where(device, dtype))
