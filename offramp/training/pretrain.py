"""Pretrain a backbone from scratch so that it can be left early: the joint early-exit loss, two kinds of row.

The recipe (optimizers, rates, loss weights, the share of question answering) comes from a small trial run;
nothing here is tuned per architecture, so that a Transformer and a Mamba trained with one config compare.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from offramp.errors import UsageError
from offramp.exits.positions import default_positions
from offramp.models.base import Model
from offramp.training.batches import Corpus, Generator, load_corpus
from offramp.training.loop import Limits, Outcome, run
from offramp.training.losses import joint_losses, total
from offramp.training.optim import apply, muon_and_adamw, set_rate
from offramp.training.progress import Callback, StepReport, ignore
from offramp.training.schedule import hold_then_decay


@dataclass(frozen=True)
class Phase:
    """Until this share of the steps: how many rows are question answering, and how long rows are."""

    until: float
    qa_share: float
    row_tokens: int


# Much question answering first: copying is what a small model learns last. Long rows at the end, when the
# rate decays, teach the positions that short rows never reach.
PHASES = (Phase(0.2, 0.6, 256), Phase(0.75, 0.25, 256), Phase(1.0, 0.25, 1024))


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that decides the weights a run ends with.

    tokens: read in all.   tokens_per_step: a step's rows times their length.
    tokens_per_backward: a step's gradient is summed over pieces of this many tokens, so that a piece's
    activations stay in the processor's cache (a half more tokens a second on a CPU than all 4,096 at once);
    None: one piece.
    exit_weight: of the mean loss over exits.   exit_share: of positions, at which exits are read.
    last_block_weight: of the loss of one exit's hidden state through the last block; 0 leaves it out.
    compile: `torch.compile` every block.   precision: "bf16" (autocast, float32 master weights) or "f32".
    """

    tokens: int = 200_000_000
    tokens_per_step: int = 32_768
    tokens_per_backward: int | None = None
    phases: tuple[Phase, ...] = PHASES
    exit_weight: float = 0.3
    exit_share: float = 0.25
    last_block_weight: float = 0.1
    muon_rate: float = 0.02
    adamw_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup_steps: int = 100
    decay_share: float = 0.3
    clip: float = 1.0
    precision: str = "bf16"
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        rows = sorted({phase.row_tokens for phase in self.phases})
        piece = self.tokens_per_backward or self.tokens_per_step
        if any(piece % length for length in rows) or self.tokens_per_step % piece:
            raise UsageError(
                f"a step of {self.tokens_per_step} tokens in pieces of {piece} is no whole number of rows "
                f"of {rows} tokens"
            )
        if self.tokens < self.tokens_per_step:
            raise UsageError(f"{self.tokens} tokens in all are less than one step of {self.tokens_per_step}")
        if self.precision not in ("bf16", "f32"):
            raise UsageError(f"unknown precision {self.precision!r}: bf16 or f32")

    @property
    def steps(self) -> int:
        return self.tokens // self.tokens_per_step

    @property
    def pieces(self) -> int:
        return self.tokens_per_step // (self.tokens_per_backward or self.tokens_per_step)

    def phase(self, step: int) -> Phase:
        """The phase that step number `step` is in."""
        share = step / self.steps
        return next((phase for phase in self.phases if share < phase.until), self.phases[-1])


class PretrainJob:
    """One run's model, optimizers and data; see `loop.Job`."""

    def __init__(self, model: Model, config: PretrainConfig, corpus: Corpus, device: torch.device) -> None:
        self.model = model
        self.config, self.corpus, self.device = config, corpus, device
        self.steps = config.steps
        self.settings: Mapping[str, Any] = {**asdict(config), "model": asdict(model.config)}
        self.after = default_positions(len(model.blocks))
        self.optimizers: Sequence[Optimizer] = muon_and_adamw(
            model, model.blocks, config.muon_rate, config.adamw_rate, config.weight_decay
        )

    @property
    def module(self) -> Model:
        return self.model

    def advance(self, step: int) -> StepReport:
        config = self.config
        set_rate(self.optimizers, hold_then_decay(step, self.steps, config.warmup_steps, config.decay_share))
        seen = self._accumulate(step)
        apply(self.optimizers, self.model.parameters(), config.clip)
        return StepReport(seen, config.tokens_per_step)

    def _accumulate(self, step: int) -> dict[str, Tensor]:
        """Leave the gradient of the step's mean loss, piece by piece. Returns the losses."""
        config = self.config
        generator = Generator(config.seed, step, self.device)
        draw = random.Random(f"{config.seed} {step}")
        bridged = draw.choice(self.after) if config.last_block_weight else None
        seen: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.device))
        for _ in range(config.pieces):
            losses = self._losses(step, generator, bridged)
            losses["loss"] = total(losses, config.exit_weight, config.last_block_weight)
            torch.autograd.backward(losses["loss"] / config.pieces)
            for name, value in losses.items():
                seen[name] = seen[name] + value.detach() / config.pieces
        return seen

    def _losses(self, step: int, generator: Generator, bridged: int | None) -> dict[str, Tensor]:
        config, phase = self.config, self.config.phase(step)
        rows = config.tokens_per_step // config.pieces // phase.row_tokens
        batch = self.corpus.batch(rows, phase.row_tokens, phase.qa_share, generator)
        chosen_P = generator.positions(batch.inputs_RT.numel(), config.exit_share)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            return joint_losses(self.model, batch, self.after, chosen_P, bridged)


def pretrain(
    model: Model,
    config: PretrainConfig,
    corpus: Path,
    out: Path,
    device: torch.device | str = "cpu",
    limits: Limits | None = None,
    callback: Callback = ignore,
) -> Outcome:
    """Train `model` in place on a corpus folder; checkpoints go to `out`, where a stopped run is continued.

    It starts from the weights the model has (`models.initial.init_weights`) and keeps them in float32.
    Raises DataError for the corpus, UsageError for an impossible config or one that `out` was not begun with.
    """
    device = torch.device(device)
    tokens = load_corpus(corpus, max(phase.row_tokens for phase in config.phases), device)
    model.to(device, torch.float32).requires_grad_(True).train()
    if config.compile:
        for block in model.blocks:
            block.compile(dynamic=False)
    outcome = run(PretrainJob(model, config, tokens, device), out, limits or Limits(), callback)
    model.eval()
    return outcome
