"""However a run is stopped, the resumed one ends with the bits of the one that was left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from offramp.training.exit_config import ExitTrainConfig
from offramp.training.exits_job import ExitsJob
from offramp.training.loop import Limits, run
from offramp.training.progress import StepReport
from tests.training.tiny import run_tiny, tiny_documents, tiny_exits, tiny_model

ROOT = Path(__file__).parents[2]


def killed_runs(folder: Path, kills: int, optimizer: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.killed_runs", str(folder), str(kills), optimizer],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["killed"] >= kills and len(found["digests"]) == 1, found
    assert found["resumed"] >= kills // 4, found  # not all died before their first checkpoint
    assert found["debris"] == []  # a finished run leaves neither its checkpoints nor what dead ones left


def test_a_few_kills(tmp_path: Path) -> None:
    killed_runs(tmp_path, 5, "adamw")


@pytest.mark.parametrize("notice", [signal.SIGINT, signal.SIGTERM])
def test_a_notice_to_leave_is_followed_after_the_step(tmp_path: Path, notice: signal.Signals) -> None:
    """What a cluster sends before it takes a machine away, and what a terminal sends."""
    former = signal.getsignal(notice)

    class Noticed(ExitsJob):
        def advance(self, step: int) -> StepReport:
            if step == 3:
                os.kill(os.getpid(), notice)
            return super().advance(step)

    config = ExitTrainConfig(steps=8, tokens_per_step=128, window=24)
    outcome = run(Noticed(tiny_model(), tiny_exits(), tiny_documents(), config, "tiny"), tmp_path, Limits())
    assert (outcome.step, outcome.stopped) == (4, "interrupted")
    assert signal.getsignal(notice) is former
    resumed, whole = tiny_exits(seed=7), tiny_exits()
    assert run_tiny(resumed, config, tmp_path).finished
    run_tiny(whole, config, tmp_path / "whole")
    for ours, theirs in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(ours, theirs)


class Noisy:
    """A job that draws from torch's own generator, as dropout does."""

    steps = 6
    settings = {"seed": 3}

    def __init__(self) -> None:
        self.module = torch.nn.Linear(5, 5, bias=False)
        torch.nn.init.zeros_(self.module.weight)
        self.optimizers = [torch.optim.SGD(self.module.parameters(), lr=0.1)]

    def advance(self, step: int) -> StepReport:
        loss = (self.module.weight * torch.randn(5, 5)).sum()
        loss.backward()
        self.optimizers[0].step()
        self.optimizers[0].zero_grad()
        return StepReport({"loss": loss.detach()}, 1)


def test_random_numbers_of_a_step_are_its_own(tmp_path: Path) -> None:
    """A resumed run draws what an uninterrupted one does, and the caller's generator is left as it was."""
    whole, parts = Noisy(), Noisy()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    run(whole, tmp_path / "whole", Limits())
    assert torch.equal(torch.get_rng_state(), before)
    for _ in range(6):
        torch.rand(7)
        parts = Noisy()
        run(parts, tmp_path / "parts", Limits(max_seconds=0))
    assert torch.equal(parts.module.weight, whole.module.weight)
    drawn = Noisy()
    drawn.settings = {"seed": 4}
    run(drawn, tmp_path / "other", Limits())
    assert not torch.equal(drawn.module.weight, whole.module.weight)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("optimizer", ["adamw", "schedulefree"])
def test_fifty_kills(tmp_path: Path, optimizer: str) -> None:
    killed_runs(tmp_path, 50, optimizer)
