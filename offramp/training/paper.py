"""What the paper's two recipes share (DYNAMAX, arXiv 2504.20922, and its published code).

Stated: exits at 1/2, 5/8, 3/4 and 7/8 of the depth; full-width gates without a norm; documents of at most 4,096
tokens, one a step, 900 updates; schedule-free AdamW at 2.5e-4; k = 15; exit i of n weighs i / (1 + ... + n).
"""

from __future__ import annotations

from fractions import Fraction

from offramp.exits.base import ExitConfig
from offramp.models.base import ModelConfig
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.recipe import ExitRecipe
from offramp.training.standard import within

DEPTHS = (Fraction(1, 2), Fraction(5, 8), Fraction(3, 4), Fraction(7, 8))
NO_CLIPPING = 1e9


def papers(
    model: ModelConfig, name: str, gate: str, bridge: str, label: str, label_reads: str, propagation: str
) -> ExitRecipe:
    """What text and code agree on, with what they differ in."""
    below = model.num_blocks - (
        bridge == "last_block"
    )  # directly before the last block that bridge saves nothing
    after = sorted({max(1, int(model.num_blocks * depth)) for depth in DEPTHS} & set(range(below)))
    exits = ExitConfig(
        gate, bridge, tuple(after), model.hidden_size, model.norm_eps, bottleneck=None, norm=False
    )
    training = ExitTrainConfig(
        label=label,
        label_k=15,
        label_reads=label_reads,
        propagation=propagation,
        steps=900,
        tokens_per_step=1,  # one document, whatever its length
        window=4096,
        rate=2.5e-4,
        weight_decay=0.0,
        warmup_steps=0,
        clip=NO_CLIPPING,
        optimizer="schedulefree",
        weighting="paper",
    )
    return ExitRecipe(name, exits, within(model, training))
