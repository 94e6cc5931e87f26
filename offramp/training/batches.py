"""Pretraining batches, gathered on the device. A batch is a pure function of (seed, step).

Shapes: R rows, T tokens a row, N tokens of the corpus.

A corpus folder holds `train.bin` (code) and `qa.bin` (question answering): uint16 ids, each document begun by
id 0; and `qa_weight.bin`: a uint8 loss weight for each id of qa.bin (answers weigh more).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from offramp.data.bins import SEPARATOR, read_bytes, read_ids
from offramp.errors import DataError


@dataclass(frozen=True)
class Batch:
    """inputs_RT predict targets_RT; weights_RT are the targets' loss weights."""

    inputs_RT: Tensor
    targets_RT: Tensor
    weights_RT: Tensor


@dataclass(frozen=True)
class Corpus:
    """The whole corpus on the device: code first, then question answering.

    qa_starts: where each document of the second part begins, ascending.
    """

    tokens_N: Tensor
    weights_N: Tensor
    code_tokens: int
    qa_starts: Tensor

    def batch(self, rows: int, length: int, qa_share: float, generator: Generator) -> Batch:
        """`rows` windows of `length` + 1 tokens: questions with probability `qa_share`, else code.

        Code windows begin anywhere, the others at a document. No step of it waits for the device.
        """
        starts_R = torch.where(
            generator.uniform(rows) < qa_share,
            self._qa_windows(rows, length, generator),
            _below(self.code_tokens - length, generator.uniform(rows)),
        )
        at_RT = starts_R[:, None] + torch.arange(length + 1, device=starts_R.device)
        tokens_RT, weights_RT = self.tokens_N[at_RT].long(), self.weights_N[at_RT].float()
        return Batch(tokens_RT[:, :-1], tokens_RT[:, 1:], weights_RT[:, 1:])

    def _qa_windows(self, rows: int, length: int, generator: Generator) -> Tensor:
        last = self.tokens_N.shape[0] - length - 1
        pick_R = self.qa_starts[_below(self.qa_starts.shape[0], generator.uniform(rows))]
        return pick_R.clamp(max=last)  # only the last documents' windows begin inside one


class Generator:
    """Random numbers of one step, on one device."""

    def __init__(self, seed: int, step: int, device: torch.device) -> None:
        self._generator = torch.Generator(device).manual_seed((seed << 32) + step)
        self._device = device

    def uniform(self, count: int) -> Tensor:
        """`count` numbers in [0, 1)."""
        return torch.rand(count, generator=self._generator, device=self._device, dtype=torch.float64)

    def positions(self, total: int, share: float) -> Tensor:
        """A random `share` of 0..total-1 (at least one), each at most once."""
        order = torch.randperm(total, generator=self._generator, device=self._device)
        return order[: max(1, round(total * share))]


def _below(limit: int, uniform_R: Tensor) -> Tensor:
    """Whole numbers in [0, limit)."""
    return (uniform_R * limit).long().clamp(max=limit - 1)


def load_corpus(folder: Path, longest_row: int, device: torch.device) -> Corpus:
    """Read a corpus folder on to the device.

    Raises DataError naming the file that is missing, too short for rows of `longest_row`, or no match for
    another.
    """
    code = read_ids(folder / "train.bin", longest_row)
    qa = read_ids(folder / "qa.bin", longest_row)
    qa_weights = np.frombuffer(read_bytes(folder / "qa_weight.bin"), np.uint8)
    if len(qa_weights) != len(qa):
        raise DataError(
            f"{folder}/qa_weight.bin has {len(qa_weights)} weights for the {len(qa)} ids of qa.bin"
        )
    starts = np.flatnonzero(qa == SEPARATOR)
    if not len(starts):
        raise DataError(f"{folder}/qa.bin has no document: each begins with id {SEPARATOR}")
    weights = np.concatenate([np.ones(len(code), np.uint8), qa_weights])
    return Corpus(
        tokens_N=torch.from_numpy(np.concatenate([code, qa]).astype(np.int32)).to(device),
        weights_N=torch.from_numpy(weights).to(device),
        code_tokens=len(code),
        qa_starts=torch.from_numpy(starts + len(code)).to(device),
    )
