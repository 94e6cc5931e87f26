"""The options of `offramp train`: what is trained, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Group, Parameter

from offramp.cli.options import Integers, plugins


@Parameter(name="*", group=Group("The exits", sort_key=10))
@dataclass(frozen=True)
class Shape:
    """What is trained, and where it sits.

    Parameters
    ----------
    exits_at
        After these blocks: 4,8. [default: after 1/4, 1/2, 5/8, 3/4 and 7/8 of them]
    bottleneck
        The gate's inner width; 0 is the model's own, as in the paper.
    bridge_rank
        Inner width of the bridge lens.
    bridge_width
        Inner width of the bridge block.
    bridge_mixer
        Of the bridge block: mamba, attention.
    share_trunk
        The bridge block reads what the gate remembers, and remembers nothing itself.
    """

    gate: Annotated[str, Parameter(help=f"What decides: {plugins('exits.gates')}.")] = "mamba"
    bridge: Annotated[str, Parameter(help=f"From an exit to the head: {plugins('exits.bridges')}.")] = "none"
    exits_at: Integers = None
    bottleneck: int = 64
    bridge_rank: int = 64
    bridge_width: int = 64
    bridge_mixer: str = "mamba"
    share_trunk: Annotated[bool, Parameter(negative=())] = False


@Parameter(name="*", group=Group("The recipe", sort_key=20))
@dataclass(frozen=True)
class Recipe:
    """What a gate learns to predict, and how.

    Parameters
    ----------
    label
        When an exit is right: exact, oracle_in_exit_topk, exit_in_oracle_topk, after_last_block.
    label_k
        The k of the two topk labels.
    steps
        Optimizer steps.
    tokens_per_step
        Tokens read in a step.
    length
        Longest stretch of a document; at most the context.
    lr
        Highest learning rate.
    seed
        The same seed gives the same exits.
    """

    label: str = "exact"
    label_k: int = 15
    steps: int = 300
    tokens_per_step: int = 4096
    length: int = 512
    lr: float = 3e-3
    seed: int = 0
