"""Checkpoints: whole or absent wherever a process dies, exact when read again, and fussy about what they read."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from offramp.errors import OfframpError, UsageError
from offramp.files import clear_stale, remove_folder, write_whole
from offramp.training import checkpoint
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.loop import Limits
from offramp.training.optim import optimizer_named, settle
from tests.training.tiny import run_tiny, tiny_exits

CONFIG = ExitTrainConfig(steps=8, tokens_per_step=128, window=24, warmup_steps=2)


class Killed(BaseException):
    """The process is dead: no `except Exception` may revive it."""


OPERATIONS = ("open", "mkdir", "rename", "replace", "unlink", "rmdir", "fsync")


@contextmanager
def killed_at(call: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """From file operation number `call` on nothing is done any more, not even tidying up. Yields what was done."""
    done = list[str]()

    def dying(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operate(*args: Any, **kwargs: Any) -> Any:
            if len(done) >= call:
                raise Killed
            done.append(name)
            return real(*args, **kwargs)

        return operate

    with monkeypatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(os, name, dying(name, getattr(os, name)))
        patch.setattr(io, "open", dying("io.open", io.open))
        yield done


class Made:
    """A module and its optimizer after `steps` steps, and how to save and find them again."""

    def __init__(self, steps: int) -> None:
        torch.manual_seed(0)
        self.module = nn.Linear(4, 3)
        self.optimizers = [optimizer_named("schedulefree", self.module.parameters(), 0.1, 0.01)]
        self.steps = steps
        for step in range(steps):
            self.module(torch.full((2, 4), step + 1.0)).square().sum().backward()
            self.optimizers[0].step()
            self.optimizers[0].zero_grad()

    def save(self, out: Path) -> None:
        with checkpoint.sole_writer(out):
            checkpoint.save(out, self.steps, {"seed": 0}, self.module, self.optimizers)

    def resume(self, out: Path) -> int:
        return checkpoint.resume(out, {"seed": 0}, self.module, self.optimizers).step

    def all_values(self) -> list[torch.Tensor]:
        moments = [value for p in self.module.parameters() for _, value in sorted(self._state(p).items())]
        counters = [float(self.optimizers[0].param_groups[0][name]) for name in ("k", "weight_sum", "lr_max")]
        return [*self.module.parameters(), *moments, torch.tensor(counters, dtype=torch.float64)]

    def _state(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(self.optimizers[0].state[parameter])


def equal(a: Made, b: Made) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.all_values(), b.all_values(), strict=True))


def test_wherever_a_process_dies_there_is_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file operation of a third save, which also removes the first: the second or the third remains."""
    saved = {steps: Made(steps) for steps in (1, 2, 3)}
    for call in range(1000):
        out = tmp_path / f"killed-at-{call}"
        saved[1].save(out)
        saved[2].save(out)
        try:
            with killed_at(call, monkeypatch) as done:
                saved[3].save(out)
        except Killed:
            found = Made(0)
            step = found.resume(out)
            assert step in (2, 3) and equal(found, saved[step]), (call, done)
            Made(4).save(out)  # the next run goes on, and clears up behind the dead one
            names = sorted(path.name for path in out.iterdir())
            assert names[0] == "latest" and names[-1] == "step-00000004" and len(names) == 3, (call, names)
        else:
            break
    assert call > 15 and done.count("fsync") >= 5  # files, folder, parent, pointer, parent


def test_a_discarded_run_is_whole_or_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for call in range(100):
        out = tmp_path / f"killed-at-{call}" / "run"
        Made(2).save(out)
        try:
            with killed_at(call, monkeypatch):
                checkpoint.discard(out)
        except Killed:
            found = Made(0)
            assert found.resume(out) in (0, 2)
            assert not out.exists() or equal(found, Made(2))
        else:
            break
    assert call > 5 and list(out.parent.iterdir()) == []


def test_what_a_killed_process_left_is_cleared_and_nothing_else(tmp_path: Path) -> None:
    dead, living = 999_999_999, os.getppid()
    stays = ["step-00000001", f".step-3.{living}.new", ".notes.12.new.txt", ".12.new", "step-3.12.new"]
    goes = [f".step-3.{dead}.new", f".step-2.{dead}.old", f".run.{dead}.gone", f".step-4.{os.getpid()}.new"]
    for name in [*stays, *goes]:
        (tmp_path / name / "deep").mkdir(parents=True)
    (tmp_path / f".latest.{dead}.new").write_text("half")
    clear_stale(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(stays)


def test_a_writer_leaves_others_files_alone(tmp_path: Path) -> None:
    (tmp_path / f".theirs.{os.getpid()}.new").mkdir()
    write_whole(tmp_path / "mine", "text")
    (tmp_path / "folder").mkdir()
    remove_folder(tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".theirs.{os.getpid()}.new", "mine"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "no state", "no run", "run.json"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, damage: str) -> None:
    Made(1).save(tmp_path)
    Made(2).save(tmp_path)
    newest = tmp_path / "step-00000002"
    state, run = newest / "state.safetensors", newest / "run.json"
    raw = bytearray(state.read_bytes())
    match damage:
        case "flip":
            raw[-3] ^= 1
            state.write_bytes(raw)
        case "truncate":
            state.write_bytes(raw[:-7])
        case "empty":
            state.write_bytes(b"")
        case "no state":
            state.unlink()
        case "no run":
            run.unlink()
        case "run.json":
            run.write_text("{")
    found = Made(0)
    assert found.resume(tmp_path) == 1 and equal(found, Made(1))
    Made(2).save(tmp_path)  # the same step again
    assert found.resume(tmp_path) == 2 and equal(found, Made(2))


def test_where_the_pointer_is_lost_the_newest_serves(tmp_path: Path) -> None:
    Made(1).save(tmp_path)
    Made(2).save(tmp_path)
    (tmp_path / "latest").write_text("step-00000077\n")
    assert Made(0).resume(tmp_path) == 2
    (tmp_path / "latest").unlink()
    assert Made(0).resume(tmp_path) == 2


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    Made(1).save(tmp_path)
    state = tmp_path / "step-00000001" / "state.safetensors"
    raw = state.read_bytes()
    for place in range(0, len(raw), 37):
        flipped = bytearray(raw)
        flipped[place] ^= 1 << place % 8
        state.write_bytes(flipped)
        with pytest.raises(OfframpError, match="is damaged .state.safetensors is not what was written"):
            Made(0).resume(tmp_path)


def test_a_damaged_checkpoint_is_told_of(tmp_path: Path) -> None:
    """The weights end the same, and people hear that their disk forgets."""
    whole, resumed = tiny_exits(), tiny_exits(seed=5)
    run_tiny(whole, CONFIG, tmp_path / "whole")
    run_tiny(tiny_exits(), CONFIG, tmp_path / "run", Limits(checkpoint_seconds=0))
    (tmp_path / "run" / "step-00000008" / "state.safetensors").write_bytes(b"\0" * 99)
    outcome = run_tiny(resumed, CONFIG, tmp_path / "run")
    assert "step-00000008 was damaged, an earlier checkpoint served" in outcome.message()
    for ours, theirs in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_another_format_is_named(tmp_path: Path) -> None:
    Made(1).save(tmp_path)
    run = tmp_path / "step-00000001" / "run.json"
    run.write_text(json.dumps(json.loads(run.read_text()) | {"format": 1}))
    with pytest.raises(OfframpError, match="of format 1; this version reads format 2"):
        Made(0).resume(tmp_path)


def test_two_processes_do_not_train_into_one_folder(tmp_path: Path) -> None:
    with (
        checkpoint.sole_writer(tmp_path),
        pytest.raises(UsageError, match="another process is working in"),
        checkpoint.sole_writer(tmp_path),
    ):
        pass
    with checkpoint.sole_writer(tmp_path):  # and it is free again
        pass


@pytest.mark.parametrize("optimizer", ["adamw", "schedulefree"])
def test_resumed_after_every_step_equals_uninterrupted(tmp_path: Path, optimizer: str) -> None:
    """Schedule-free: the way to the averaged weights and back rounds, so it is not gone in the middle."""
    config = ExitTrainConfig(**{**CONFIG.__dict__, "optimizer": optimizer})
    whole = tiny_exits("mamba")
    run_tiny(whole, config, tmp_path / "whole")
    for seed in range(config.steps):
        parts = tiny_exits("mamba", seed=seed)
        if seed == 0:
            run_tiny(parts, config, tmp_path / "parts", Limits(max_seconds=0))
            continue
        outcome = run_tiny(parts, config, tmp_path / "parts", Limits(max_seconds=0))
    assert outcome.finished
    for ours, theirs in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_weights_of_a_run_are_the_averaged_ones() -> None:
    """x = the mean of the iterates z, each weighing as the square of its largest rate: 1 without a warm-up."""
    value = nn.Parameter(torch.tensor([1.0]))
    optimizer = optimizer_named("schedulefree", [value], 0.1, 0.0)
    iterates = []
    for _ in range(5):
        (value**2).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        iterates.append(optimizer.state[value]["z"].item())
    between = value.item()
    settle([optimizer])
    assert value.item() == pytest.approx(sum(iterates) / 5, abs=1e-6)
    assert abs(value.item() - between) > 1e-3


def test_an_unknown_optimizer(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown optimizer 'sgd': one of adamw, schedulefree"):
        optimizer_named("sgd", [nn.Parameter(torch.zeros(1))], 0.1, 0.0)


@pytest.mark.parametrize(
    "change",
    [
        {"settings": []},
        {"settings": None},
        {"step": "x"},
        {"step": None},
        {"step": -1},
        {"step": float("inf")},
        {"counters": None},
        {"counters": [[{"betas": 1}]]},
        {"counters": [[{"lr": "x"}]]},
        {"counters": [["a"]]},
    ],
)
def test_numbers_that_nobody_wrote(tmp_path: Path, change: dict[str, object]) -> None:
    Made(1).save(tmp_path)
    run = tmp_path / "step-00000001" / "run.json"
    run.write_text(json.dumps(json.loads(run.read_text()) | change))
    with pytest.raises(OfframpError, match="to start again"):
        Made(0).resume(tmp_path)


@pytest.mark.parametrize("name", ["optimizer", "optimizer.0", "optimizer.0.0", "optimizer.0.0.z"])
def test_moments_that_nobody_wrote(tmp_path: Path, name: str) -> None:
    Made(1).save(tmp_path)
    folder = tmp_path / "step-00000001"
    tensors = load_file(folder / "state.safetensors") | {name: torch.zeros(7)}
    save_file(tensors, folder / "state.safetensors")
    raw = json.loads((folder / "run.json").read_text())
    raw["sha256"] = hashlib.sha256((folder / "state.safetensors").read_bytes()).hexdigest()
    (folder / "run.json").write_text(json.dumps(raw))
    with pytest.raises(OfframpError, match="does not fit this run"):
        Made(0).resume(tmp_path)


def test_a_step_beyond_the_last_is_no_finished_run(tmp_path: Path) -> None:
    run_tiny(tiny_exits(), CONFIG, tmp_path)
    for run in tmp_path.glob("step-*/run.json"):
        run.write_text(json.dumps(json.loads(run.read_text()) | {"step": 10**9}))
    with pytest.raises(OfframpError, match="is at step 1000000000 of"):
        run_tiny(tiny_exits(), CONFIG, tmp_path)


def test_a_damaged_pointer_is_no_more_than_lost(tmp_path: Path) -> None:
    Made(1).save(tmp_path)
    (tmp_path / "latest").write_bytes(b"\xff" * 9)
    assert Made(0).resume(tmp_path) == 1
