"""A stand-in backbone of a few thousand parameters, a corpus it can learn, and a short run that trains exits on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from offramp.data.documents import Documents
from offramp.exits.base import ExitConfig
from offramp.exits.exit_set import ExitSet, build_exits
from offramp.mixers.base import State
from offramp.mixers.identity import Identity
from offramp.models.base import Block, Model, ModelConfig
from offramp.training.distributed import ALONE, Workers
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.exits_job import ExitsJob
from offramp.training.loop import Limits, Outcome, run

VOCABULARY, WIDTH = 32, 16


class PreviousToken(Identity):
    """Mixes in the token before, through a matrix: the least that makes a context matter."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_proj = nn.Linear(width, width, bias=False)

    def forward(
        self,
        x_RTD: Tensor,
        state: State | None = None,
        rows: Sequence[int] | None = None,
        n: Sequence[int] | None = None,
    ) -> Tensor:
        return self.out_proj(torch.cat([torch.zeros_like(x_RTD[:, :1]), x_RTD[:, :-1]], dim=1))


def tiny_model(blocks: int = 8, seed: int = 0) -> Model:
    """Blocks of a previous-token mixer and a linear MLP."""
    torch.manual_seed(seed)
    config = ModelConfig("stand-in", VOCABULARY, WIDTH, blocks, 64, 1e-5, False, 0, (0,))
    stack = [
        Block(nn.RMSNorm(WIDTH), PreviousToken(WIDTH), nn.RMSNorm(WIDTH), nn.Linear(WIDTH, WIDTH))
        for _ in range(blocks)
    ]
    head = nn.Linear(WIDTH, VOCABULARY, bias=False)
    return Model(config, nn.Embedding(VOCABULARY, WIDTH), stack, nn.RMSNorm(WIDTH), head).eval()


def counting_documents(count: int, length: int, seed: int = 0) -> list[list[int]]:
    """Documents that begin with id 0 and count upwards in 1..31 from a random number."""
    random = np.random.default_rng(seed)
    firsts = random.integers(0, VOCABULARY - 1, count)
    return [[0, *((first + np.arange(length)) % (VOCABULARY - 1) + 1).tolist()] for first in firsts]


def write_corpus(folder: Path) -> Path:
    """A corpus folder in the layout of `batches.load_corpus`."""
    folder.mkdir(exist_ok=True)
    code = np.array(sum(counting_documents(20, 100), []), np.uint16)
    answers = np.array(sum(counting_documents(60, 12, seed=1), []), np.uint16)
    code.tofile(folder / "train.bin")
    answers.tofile(folder / "qa.bin")
    np.where(np.arange(len(answers)) % 13 > 9, 4, 1).astype(np.uint8).tofile(folder / "qa_weight.bin")
    return folder


def tiny_exits(gate: str = "linear", seed: int = 0, bridge: str = "none") -> ExitSet:
    """Exits after three of the eight blocks."""
    return build_exits(ExitConfig(gate, bridge, (2, 4, 6), WIDTH, 1e-5, None), 8, seed)


def tiny_documents() -> Documents:
    """Of many lengths, so that batches differ in their rows, and some hold a single one."""
    texts = [ids[: 8 + 7 * (i % 6)] for i, ids in enumerate(counting_documents(60, 40, seed=3))]
    return Documents(texts[:50], texts[50:], "counting")


def run_tiny(
    exits: ExitSet, config: ExitTrainConfig, out: Path, limits: Limits | None = None, workers: Workers = ALONE
) -> Outcome:
    """Train exits of `tiny_model` as `train_exits` does, without what it does before and after."""
    model = tiny_model().requires_grad_(False)
    job = ExitsJob(model, exits.train(), tiny_documents(), config, "tiny", workers)
    return run(job, out, limits or Limits(), workers=workers)
