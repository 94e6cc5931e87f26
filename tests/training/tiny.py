"""A stand-in backbone of a few thousand parameters, and a corpus it can learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from offramp.mixers.base import State
from offramp.mixers.identity import Identity
from offramp.models.base import Block, Model, ModelConfig

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
