"""Two processes over gloo train what one does, stop together, and only one of them writes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from offramp.training.distributed import ALONE, Workers, workers
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.exits import train_exits
from offramp.training.exits_job import ExitsJob
from offramp.training.joint.config import JointConfig
from offramp.training.joint.job import JointJob
from offramp.training.loop import Limits, run
from offramp.training.progress import Progress, StepReport
from tests.training.tiny import tiny_documents, tiny_exits, tiny_model

ROOT = Path(__file__).parents[2]
CONFIG = ExitTrainConfig(steps=12, tokens_per_step=128, window=24, warmup_steps=2)
RUNS = {
    "mamba": ("mamba", "none", CONFIG),
    "balanced, with bridges": ("linear", "lens", replace(CONFIG, balance=True)),
    # Most batches are one row, so that one of two workers has none.
    "one row": ("linear", "lens", replace(CONFIG, tokens_per_step=24, balance=True)),
    "schedule-free": ("linear", "none", replace(CONFIG, optimizer="schedulefree")),
}
JOINT = JointConfig(steps=8, tokens_per_step=96, window=24, rate=1e-3, dropout=0.4, warmup_steps=2)


def trained(name: str, folder: Path, me: Workers) -> tuple[dict[str, Tensor], list[Progress]]:
    """The weights of one of RUNS, and what its watcher heard."""
    gate, bridge, config = RUNS[name]
    exits, seen = tiny_exits(gate, bridge=bridge), list[Progress]()
    train_exits(
        tiny_model(), exits, tiny_documents(), config, folder / name, limits=Limits(report_every=3),
        callback=seen.append, workers=me,
    )  # fmt: skip
    return dict(exits.state_dict()), seen


def joint(folder: Path, me: Workers) -> dict[str, Tensor]:
    """All weights of a model, whose rows skip blocks: a row skips the same ones whoever has it."""
    model = tiny_model(blocks=4)
    job = JointJob(model.requires_grad_(True).train(), tiny_documents(), JOINT, "tiny", me)
    run(job, folder / "joint", Limits(), workers=me)
    return dict(model.state_dict())


class Interrupted(ExitsJob):
    """Ctrl-C reaches the second worker alone, in its fifth step."""

    def advance(self, step: int) -> StepReport:
        if step == 4 and not self.workers.is_main:
            os.kill(os.getpid(), signal.SIGINT)
        return super().advance(step)


def interrupted(folder: Path, me: Workers) -> dict[str, Any]:
    job = Interrupted(tiny_model(), tiny_exits(), tiny_documents(), CONFIG, "tiny", me)
    outcome = run(job, folder / "interrupted", Limits(), workers=me)
    return {"step": outcome.step, "stopped": outcome.stopped}


def work(folder: Path) -> None:
    """What each of the two processes does."""
    me = workers("cpu")
    assert (me.rank, me.count) == (int(os.environ["RANK"]), 2)
    told: dict[str, Any] = {"interrupted": interrupted(folder, me)}
    for name in RUNS:
        weights, seen = trained(name, folder, me)
        told[name] = {
            "weights": {key: value.tolist() for key, value in weights.items()},
            "seen": [[progress.loss, *progress.losses.values(), progress.tokens] for progress in seen],
        }
    told["joint"] = {key: value.tolist() for key, value in joint(folder, me).items()}
    (folder / f"worker{me.rank}.json").write_text(json.dumps(told))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A folder in which two workers trained, and what each told."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.test_distributed", str(folder)],
            cwd=ROOT,
            env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    return folder, [json.loads((folder / f"worker{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", RUNS)
def test_two_train_what_one_does(two: tuple[Path, list[dict[str, Any]]], tmp_path: Path, name: str) -> None:
    alone, heard = trained(name, tmp_path, ALONE)
    first, second = (told[name] for told in two[1])
    assert first["weights"] == second["weights"]  # bit for bit: they never drift apart
    before = tiny_exits(RUNS[name][0], bridge=RUNS[name][1]).state_dict()
    for key, value in alone.items():
        torch.testing.assert_close(torch.tensor(first["weights"][key]), value, atol=2e-5, rtol=2e-4)
    assert any(not torch.equal(value, before[key]) for key, value in alone.items())
    ours = [[progress.loss, *progress.losses.values(), progress.tokens] for progress in heard]
    torch.testing.assert_close(torch.tensor(first["seen"]), torch.tensor(ours), atol=1e-5, rtol=1e-4)


def test_two_train_a_whole_model_as_one_does(two: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    alone, before = joint(tmp_path, ALONE), tiny_model(blocks=4).state_dict()
    first, second = (told["joint"] for told in two[1])
    assert first == second
    for key, value in alone.items():
        torch.testing.assert_close(torch.tensor(first[key]), value, atol=2e-5, rtol=2e-4)
        assert not torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", RUNS)
def test_only_the_main_worker_writes_and_talks(two: tuple[Path, list[dict[str, Any]]], name: str) -> None:
    folder, told = two
    assert told[0][name]["seen"] and not told[1][name]["seen"]
    assert sorted(path.name for path in (folder / name).iterdir()) == ["exits.json", "model.safetensors"]
    assert not (folder / f".{name}.run").exists()


def test_the_interrupt_of_one_stops_all_at_the_same_step(two: tuple[Path, list[dict[str, Any]]]) -> None:
    for told in two[1]:
        assert told["interrupted"] == {"step": 5, "stopped": "interrupted"}
    names = sorted(path.name for path in (two[0] / "interrupted").iterdir())
    assert names == ["latest", "step-00000005"]


def test_every_row_is_one_workers() -> None:
    for count in (1, 2, 3, 5):
        for rows in range(8):
            shares = [Workers(rank, count).share(range(rows)) for rank in range(count)]
            assert sorted(row for share in shares for row in share) == list(range(rows))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_without_a_launcher_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ({}, {"WORLD_SIZE": "1", "RANK": "0"}, {"WORLD_SIZE": "4"}):
        for name in ("WORLD_SIZE", "RANK"):
            monkeypatch.delenv(name, raising=False)
        for name, value in place.items():
            monkeypatch.setenv(name, value)
        assert workers() is ALONE
    values = torch.ones(3)
    assert ALONE.sum(values) is values
    ALONE.barrier()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
