"""Pretraining learns, resumes bit for bit, and says what it cannot do."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from offramp.errors import DataError, OfframpError, UsageError
from offramp.training.batches import Generator, load_corpus
from offramp.training.loop import Limits
from offramp.training.losses import total
from offramp.training.pretrain import Phase, PretrainConfig, PretrainJob, pretrain
from offramp.training.progress import Progress
from tests.training.tiny import tiny_model, write_corpus

CONFIG = PretrainConfig(
    tokens=128 * 24,
    tokens_per_step=128,
    phases=(Phase(0.5, 0.5, 16), Phase(1.0, 0.25, 32)),
    warmup_steps=4,
    precision="f32",
)
OFTEN = Limits(report_every=1)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus")


class StopAfter:
    """A watcher that presses Ctrl-C after a number of steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, progress: Progress) -> None:
        if progress.step == self.steps:
            os.kill(os.getpid(), signal.SIGINT)


def test_loss_falls_and_every_exit_is_reported(corpus: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    outcome = pretrain(tiny_model(), CONFIG, corpus, tmp_path / "run", limits=OFTEN, callback=seen.append)
    assert outcome.finished and outcome.message() == "finished 24 steps"
    assert seen[-1].loss < 0.8 * seen[0].loss
    assert set(seen[0].losses) == {"final", "exit2", "exit4", "exit5", "exit6", "exit7", "last_block"}
    assert seen[-1].tokens == CONFIG.tokens


def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(corpus: Path, tmp_path: Path) -> None:
    whole = tiny_model(seed=1)
    pretrain(whole, CONFIG, corpus, tmp_path / "whole")
    parts = tmp_path / "parts"
    first = pretrain(tiny_model(seed=1), CONFIG, corpus, parts, limits=OFTEN, callback=StopAfter(13))
    assert first.step == 14 and not first.finished  # the signal comes after step 13 was examined
    assert "interrupted" in first.message() and str(first.checkpoint) in first.message()
    resumed = tiny_model(seed=3)
    assert pretrain(resumed, CONFIG, corpus, parts).finished
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_step_in_pieces_has_the_mean_of_their_gradients(corpus: Path) -> None:
    config = replace(CONFIG, tokens_per_backward=64)
    device = torch.device("cpu")
    job = PretrainJob(tiny_model().train(), config, load_corpus(corpus, 32, device), device)
    seen = job._accumulate(0)
    gradient = job.model.embed.weight.grad
    assert isinstance(gradient, torch.Tensor)
    job.model.zero_grad()
    generator = Generator(config.seed, 0, device)
    bridged = random.Random(f"{config.seed} 0").choice(job.after)
    pieces = [job._losses(0, generator, bridged) for _ in range(2)]
    losses = [total(piece, config.exit_weight, config.last_block_weight) for piece in pieces]
    mean = (losses[0] + losses[1]) / 2
    mean.backward()
    assert seen["loss"] == pytest.approx(float(mean.detach()))
    assert torch.allclose(gradient, job.model.embed.weight.grad, atol=1e-6)


def test_time_limit_stops_with_a_checkpoint(corpus: Path, tmp_path: Path) -> None:
    outcome = pretrain(tiny_model(), CONFIG, corpus, tmp_path / "run", limits=Limits(max_seconds=0))
    assert outcome.step == 1 and outcome.checkpoint.name == "step-00000001"
    assert "the 0 seconds given are over" in outcome.message()


def test_checkpoints_replace_each_other_and_are_not_pickles(corpus: Path, tmp_path: Path) -> None:
    pretrain(tiny_model(), CONFIG, corpus, tmp_path / "run", limits=Limits(checkpoint_seconds=0))
    names = sorted(path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*"))
    steps = ("step-00000023", "step-00000024")  # the newest, and the one before it
    files = [f"{step}{file}" for step in steps for file in ("", "/run.json", "/state.safetensors")]
    assert names == ["latest", *files]


def test_only_checkpoints_make_way_for_checkpoints(corpus: Path, tmp_path: Path) -> None:
    notes = tmp_path / "run" / "step-by-step" / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("precious")
    pretrain(tiny_model(), CONFIG, corpus, tmp_path / "run", limits=Limits(max_seconds=0))
    assert notes.read_text() == "precious"


def test_other_settings_are_refused(corpus: Path, tmp_path: Path) -> None:
    pretrain(tiny_model(), CONFIG, corpus, tmp_path / "run", limits=Limits(max_seconds=0))
    with pytest.raises(UsageError, match="muon_rate was 0.02, now 0.01"):
        pretrain(tiny_model(), replace(CONFIG, muon_rate=0.01), corpus, tmp_path / "run")


def test_damaged_checkpoint_is_named(corpus: Path, tmp_path: Path) -> None:
    outcome = pretrain(tiny_model(), CONFIG, corpus, tmp_path / "run", limits=Limits(max_seconds=0))
    (outcome.checkpoint / "state.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(OfframpError, match="step-00000001 is damaged"):
        pretrain(tiny_model(), CONFIG, corpus, tmp_path / "run")


def test_divergence_is_an_error_and_leaves_no_checkpoint(corpus: Path, tmp_path: Path) -> None:
    wild = replace(CONFIG, adamw_rate=1e30, clip=1e30)
    with pytest.raises(OfframpError, match="diverged"):
        pretrain(tiny_model(), wild, corpus, tmp_path / "run", limits=OFTEN)
    assert not (tmp_path / "run" / "latest").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokens_per_step": 100}, "no whole number of rows"),
        ({"tokens_per_backward": 96}, "in pieces of 96"),
        ({"tokens": 64}, "less than one step"),
        ({"precision": "fp8"}, "bf16 or f32"),
    ],
)
def test_impossible_configs(change: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        replace(CONFIG, **change)  # type: ignore[arg-type]


def test_corpus_errors_name_the_file(corpus: Path, tmp_path: Path) -> None:
    def attempt() -> None:
        pretrain(tiny_model(), CONFIG, corpus, tmp_path / "run")

    np.ones(3, np.uint8).tofile(corpus / "qa_weight.bin")
    with pytest.raises(DataError, match="qa_weight.bin has 3 weights"):
        attempt()
    (corpus / "train.bin").write_bytes(b"\0\0")
    with pytest.raises(DataError, match="train.bin has 1 ids"):
        attempt()
    (corpus / "train.bin").unlink()
    with pytest.raises(DataError, match="cannot read .*train.bin"):
        attempt()
