"""The options of `offramp train`: which recipe, and what of it is to be otherwise.

An option that is not given is the recipe's. Each group says in `given` which of a recipe's fields were.
"""

from __future__ import annotations

from ast import get_docstring, parse
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any

from cyclopts import Group, Parameter

from offramp.cli.options import Integers, plugins
from offramp.errors import UsageError
from offramp.registry import names

RECIPES = "offramp.training.recipes"


def recipes() -> str:
    """Every recipe with its docstring's first line, read from its source: importing it would import torch."""
    return "\n".join(
        f"- {name.replace('_', '-')}: {_first_line(f'{RECIPES}.{name}')}" for name in names(RECIPES)
    )


def _first_line(module: str) -> str:
    spec = find_spec(module)
    loader = spec.loader if spec else None
    source = loader.get_source(module) if loader is not None and hasattr(loader, "get_source") else None
    return (get_docstring(parse(source or "")) or "a recipe of its own.").partition("\n")[0]


def _set(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


@Parameter(name="*", group=Group("The exits", sort_key=10))
@dataclass(frozen=True)
class Shape:
    """What is trained, and where it sits. [default: the recipe's]

    Parameters
    ----------
    exits_at
        After these blocks: 4,8. [default: after 1/4, 1/2, 5/8, 3/4 and 7/8 of them]
    bottleneck
        The gate's inner width; 0 is the model's own, as in the paper. [default: 64]
    size
        small, medium or large: the bottleneck that makes gates of every kind equal in parameters.
    bridge_rank
        Inner width of the bridge lens. [default: 64]
    bridge_width
        Inner width of the bridge block. [default: 64]
    share_trunk
        The bridge block reads what the gate remembers, and remembers nothing itself.
    draft_vocabulary
        For verify: drafts are chosen among so many tokens, the commonest of the data, and read no more of the head;
        every word is still judged by the whole of it. 0: all tokens. [default: 0]
    """

    gate: Annotated[
        str | None, Parameter(help=f"What decides: {plugins('exits.gates')}. [default: mamba]")
    ] = None
    bridge: Annotated[
        str | None, Parameter(help=f"From an exit to the head: {plugins('exits.bridges')}. [default: none]")
    ] = None
    exits_at: Integers = None
    bottleneck: int | None = None
    size: str | None = None
    bridge_rank: int | None = None
    bridge_width: int | None = None
    bridge_mixer: Annotated[
        str | None, Parameter(help=f"Of the bridge block: {plugins('exits.mixers')}. [default: mamba]")
    ] = None
    share_trunk: Annotated[bool, Parameter(negative=())] = False
    draft_vocabulary: int | None = None

    def given(self) -> dict[str, Any]:
        """By the names of the fields of `ExitConfig`. Raises UsageError for options that do not go together."""
        if self.size is not None and self.bottleneck is not None:
            raise UsageError("--size says how wide the bottleneck is: leave out --bottleneck, or --size")
        if self.share_trunk and (self.bridge_width, self.bridge_mixer) != (None, None):
            raise UsageError(
                "--share-trunk makes the bridge read the gate's trunk, which --gate and --bottleneck shape: "
                "leave out --bridge-width and --bridge-mixer, or --share-trunk"
            )
        bridge_fields = _set(
            rank=self.bridge_rank,
            width=self.bridge_width,
            mixer="gate" if self.share_trunk else self.bridge_mixer,
        )
        fields = _set(
            gate=self.gate, bridge=self.bridge, after=self.exits_at, draft_vocabulary=self.draft_vocabulary
        )
        fields |= bridge_fields
        # 0 is the model's own width, which a config calls None.
        return fields if self.bottleneck is None else fields | {"bottleneck": self.bottleneck or None}


@Parameter(name="*", group=Group("How it learns", sort_key=20))
@dataclass(frozen=True)
class Learning:
    """What a gate learns to predict, and how. [default: the recipe's]

    Parameters
    ----------
    label
        When an exit is right: exact, oracle_in_exit_topk, exit_in_oracle_topk, after_last_block. [default: exact]
    label_k
        The k of the two topk labels. [default: 15]
    propagation
        What the exits are meant for, noted beside them; on-policy it is what runs. [default: verify]
    steps
        Optimizer steps. [default: 300]
    tokens_per_step
        Tokens read in a step. [default: 4096]
    length
        Longest stretch of a document; at most the context. [default: 512]
    lr
        Highest learning rate. [default: 0.003]
    optimizer
        adamw, or schedulefree as in the paper. [default: adamw]
    seed
        The same seed gives the same exits. [default: 0]
    replies
        On-policy: how many replies the model writes to learn from. [default: 200]
    dropout
        layerskip: how often the last block is skipped; earlier ones less often. [default: 0.1]
    lora_rank
        layerskip: learn low-rank changes of this rank, which are merged in the end; 0: all weights. [default: 0]
    """

    recipe: Annotated[
        str | None,
        Parameter(help=f"All of it at once; other options change single fields of it.\n\n{recipes()}"),
    ] = None
    label: str | None = None
    label_k: int | None = None
    propagation: str | None = None
    steps: int | None = None
    tokens_per_step: int | None = None
    length: int | None = None
    lr: float | None = None
    optimizer: str | None = None
    seed: int | None = None
    replies: int | None = None
    dropout: float | None = None
    lora_rank: int | None = None

    def given(self, context_length: int) -> dict[str, Any]:
        """By the names of a recipe's fields; k says something of the two topk labels only."""
        label_k = self.label_k
        if self.label is not None:
            label_k = (15 if label_k is None else label_k) if self.label.endswith("topk") else 1
        return _set(
            label=self.label,
            label_k=label_k,
            propagation=self.propagation,
            steps=self.steps,
            tokens_per_step=self.tokens_per_step,
            window=None if self.length is None else min(self.length, context_length),
            rate=self.lr,
            optimizer=self.optimizer,
            seed=self.seed,
            replies=self.replies,
            dropout=self.dropout,
            lora_rank=self.lora_rank,
        )
