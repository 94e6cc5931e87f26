"""What a checkpoint is made of, counted: parameters of every part, and of its exits next to a block's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from offramp.cli.block_kinds import BlockKind, block_kinds
from offramp.cli.leaving import LeavingFound, leaving_found
from offramp.engine.load import Checkpoint, exits_of
from offramp.errors import ExitsError
from offramp.exits.exit_set import ExitSet
from offramp.exits.store import ExitsInfo, load_exits
from offramp.models.base import Model
from offramp.models.quantised import left_out, number_format, plain


@dataclass(frozen=True)
class Part:
    """A part of the model. `share` is of the model's parameters; a tied head has none of its own."""

    name: str
    parameters: int
    bytes: int
    share: float


@dataclass(frozen=True)
class ExitsFound:
    """One exit set. gate_share, bridge_share: an exit's parameters as a share of a block's.

    problem: why it cannot be used with this model; then the rest is empty.
    """

    name: str
    after: tuple[int, ...] = ()
    gate: str = ""
    bridge: str = ""
    label: str = ""
    propagation: str = ""
    gate_share: float = 0.0
    bridge_share: float = 0.0
    metrics: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Anatomy:
    """A checkpoint in numbers. head_blocks: the vocabulary projection's cost in blocks. left_out: of quantised ones,
    the linear maps that stayed float32."""

    folder: str
    family: str
    parameters: int
    blocks: int
    width: int
    vocabulary: int
    context: int
    tied: bool
    dtype: str
    parts: tuple[Part, ...]
    kinds: tuple[BlockKind, ...]
    head_blocks: float
    exits: tuple[ExitsFound, ...]
    leaving: LeavingFound | None
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Anatomy:
        model = checkpoint.model
        config, block = model.config, block_size(model)
        return cls(
            folder=str(checkpoint.folder),
            family=config.model_type,
            parameters=size(model),
            blocks=config.num_blocks,
            width=config.hidden_size,
            vocabulary=config.vocab_size,
            context=config.context_length,
            tied=config.tie_embeddings,
            dtype=number_format(model),
            parts=tuple(_parts(model)),
            kinds=block_kinds(model),
            head_blocks=config.vocab_size * config.hidden_size / block,
            exits=tuple(_found(checkpoint.folder, model)),
            leaving=leaving_found(checkpoint.folder, model),
            left_out=left_out(model),
        )


def size(module: nn.Module) -> int:
    """Parameters, shared ones once."""
    return sum(weight.numel() for weight in _weights(module))


def block_size(model: Model) -> float:
    """Parameters of a block, mean over the blocks (a hybrid's differ)."""
    return size(model.blocks) / model.config.num_blocks


def _weights(module: nn.Module) -> list[Tensor]:
    return list({_where(weight): weight for weight in module.parameters()}.values())


def _where(weight: Tensor) -> int:
    """Where its numbers lie."""
    return next(iter(plain({"": weight}).values())).data_ptr()


def _parts(model: Model) -> Iterator[Part]:
    """The model's parts in order; what an earlier part owns already is not counted again."""
    seen: set[int] = set()
    whole = size(model)
    for name in ("embed", "blocks", "norm", "head"):
        own = [weight for weight in _weights(getattr(model, name)) if _where(weight) not in seen]
        seen.update(map(_where, own))
        count = sum(weight.numel() for weight in own)
        yield Part(name, count, sum(weight.nbytes for weight in own), count / whole)


def _found(folder: Path, model: Model) -> Iterator[ExitsFound]:
    """Every exit set in the checkpoint's folder."""
    root = folder / "exits"
    single = [("default", root)] if (root / "exits.json").is_file() else []
    block = block_size(model)
    for name, path in [*single, *((name, root / name) for name in exits_of(folder))]:
        try:
            yield _describe(name, *load_exits(path, model), block)
        except ExitsError as error:
            yield ExitsFound(name, problem=str(error))


def _describe(name: str, exits: ExitSet, info: ExitsInfo, block: float) -> ExitsFound:
    first = next(iter(exits))
    label = f"{info.label} (k = {info.label_k})" if info.label_k > 1 else info.label
    return ExitsFound(
        name=name,
        after=exits.after,
        gate=exits.config.gate,
        bridge=exits.config.bridge,
        label=label,
        propagation=info.propagation,
        gate_share=size(first.gate) / block,
        bridge_share=size(first.bridge) / block,
        metrics=info.metrics,
    )
