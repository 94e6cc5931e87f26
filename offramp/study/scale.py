"""How much of everything a study does."""

from __future__ import annotations

from dataclasses import dataclass

from offramp.study.arms import BRIDGES, GATES, LINEAR, PAPER


@dataclass(frozen=True)
class Scale:
    """seeds: of training.   steps, tokens: of every gate, and tokens a step; bridge_steps, bridge_tokens: of those with
    bridges that learn; paper_steps: of the paper's two recipes, a document each; joint_steps: of the fine-tuning that
    makes a model leave early by itself, joint_gate_steps: of gates on that; on_policy_steps: how many of
    `steps` are made on on_policy_replies of the model's own.

    code, answers: prompts that are continued, and prompts of each kind with an answer; their longest replies.
    shares: of tokens that are to leave, by what tuning text says: the points of every front.
    gates: by name, see `arms`. dropped: blocks of static layer dropping.
    propagations, policies: beside the first of each.
    """

    seeds: int = 3
    steps: int = 70
    tokens: int = 4096
    bridge_steps: int = 50
    bridge_tokens: int = 2048
    paper_steps: int = 240
    joint_steps: int = 60
    joint_gate_steps: int = 60
    on_policy_steps: int = 30
    on_policy_replies: int = 60
    training_tokens: int = 1_000_000
    tune_texts: int = 96
    tune_length: int = 256
    code: int = 20
    answers: int = 20
    code_tokens: int = 32
    answer_tokens: int = 16
    shares: tuple[float, ...] = (0.15, 0.35, 0.55, 0.75, 0.92)
    gates: tuple[str, ...] = GATES
    bridges: tuple[str, ...] = BRIDGES
    paper: tuple[str, ...] = PAPER
    propagations: tuple[str, ...] = ("defer", "copy_block", "copy_token", "skip", "verify")
    policies: tuple[str, ...] = ("confidence", "margin", "entropy", "saturation", "random")
    dropped: tuple[int, ...] = (1, 2, 3, 4, 6)
    timed: int = 8
    joint: bool = True
    on_policy: bool = True
    name: str = "full"


QUICK = Scale(
    seeds=2,
    steps=24,
    tokens=2048,
    bridge_steps=12,
    bridge_tokens=2048,
    paper_steps=40,
    training_tokens=200_000,
    tune_texts=32,
    tune_length=192,
    code=6,
    answers=6,
    code_tokens=32,
    shares=(0.2, 0.5, 0.8),
    gates=(LINEAR, "mlp-medium", "transformer-medium", "mamba-medium"),
    bridges=("lens",),
    paper=("paper-code",),
    propagations=("defer", "skip", "verify"),
    policies=("margin", "random"),
    dropped=(1, 3),
    timed=3,
    joint=False,
    on_policy=False,
    name="quick",
)
"""The same, small: under five minutes on four cores for both twins."""
