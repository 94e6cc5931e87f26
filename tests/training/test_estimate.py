"""The forecast of a training run, against counts by hand and against what a real run takes."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from offramp.data.documents import Documents
from offramp.exits.base import BridgeConfig, ExitConfig
from offramp.exits.exit_set import ExitSet, build_exits
from offramp.training import estimate as module
from offramp.training.alive import PeakMemory, storage_bytes
from offramp.training.estimate import estimate
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.exits_job import ExitsJob
from tests.training.tiny import VOCABULARY, WIDTH, tiny_documents, tiny_exits, tiny_model

ROOT = Path(__file__).parents[2]
CONFIG = ExitTrainConfig(steps=40, tokens_per_step=128, window=24, warmup_steps=2)
BIG = ExitTrainConfig(tokens_per_step=256 * 64, window=64, steps=2)


def big() -> tuple[ExitSet, Documents]:
    """Exits whose step takes some hundred MiB, and documents for it."""
    shape = ExitConfig("mlp", "lens", (2, 4, 6), WIDTH, 1e-5, 512, bridge_config=BridgeConfig(rank=64))
    rows = torch.randint(1, VOCABULARY, (257, 64), generator=torch.Generator().manual_seed(0)).tolist()
    return build_exits(shape, 8), Documents(rows[:256], rows[256:], "random")


def test_weights_are_counted_exactly() -> None:
    found = estimate(tiny_model(), tiny_exits(), CONFIG, tiny_documents())
    assert found.trainable_parameters == 3 * (WIDTH + WIDTH + 1)  # linear gates: norm, weights, bias
    assert found.exit_bytes == found.gradient_bytes == 4 * found.trainable_parameters
    assert found.optimizer_bytes == 8 * found.trainable_parameters
    block = 4 * WIDTH**2 // 2 + WIDTH + 2 * WIDTH  # a matrix each in mixer and MLP, the MLP's bias, two norms
    assert found.backbone_bytes == 4 * (2 * VOCABULARY * WIDTH + WIDTH + 8 * block)
    tokens = sum(map(len, tiny_documents().training))
    assert found.epochs == pytest.approx(40 * 128 / tokens)


def test_time_is_that_of_real_steps_and_nothing_changes() -> None:
    exits = tiny_exits("mamba")
    before = copy.deepcopy(exits.state_dict())
    found = estimate(tiny_model(), exits, CONFIG, tiny_documents())
    assert found.seconds_per_step is not None and found.peak_bytes is not None and found.fits
    assert 1e-4 < found.seconds_per_step < 10 and found.seconds == pytest.approx(40 * found.seconds_per_step)
    for name, value in exits.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(value is None for value in (p.grad for p in exits.parameters()))


def test_a_model_without_values_has_weights_only() -> None:
    found = estimate(tiny_model().to("meta"), tiny_exits(), CONFIG, tiny_documents())
    assert (found.activation_bytes, found.peak_bytes, found.seconds, found.fits) == (None, None, None, None)
    assert found.trainable_parameters == 99 and ("all steps take", "unknown") in found.rows()


def test_what_does_not_fit_is_said_and_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = estimate(tiny_model(), tiny_exits(), CONFIG, tiny_documents())
    monkeypatch.setattr(module, "free_bytes", lambda device: 1000)
    found = estimate(tiny_model(), tiny_exits(), CONFIG, tiny_documents())
    assert found.fits is False and found.seconds is None
    assert found.activation_bytes is not None and whole.activation_bytes is not None
    assert found.activation_bytes >= whole.activation_bytes  # a bound
    assert dict(found.rows())["peak memory"].endswith("more than is free")


def test_memory_alive_is_counted() -> None:
    with PeakMemory() as memory:
        a = torch.zeros(1000)  # 4,000 bytes
        view = a[10:].view(-1, 10)
        b = a + 1  # 8,000 alive
        del b
        c = torch.zeros(500)  # 6,000
        a.mul_(2)
        del a
        kept = view  # keeps the memory of a
        d = torch.zeros(800)  # 9,200
        del c, d
    assert memory.peak == 9200
    assert storage_bytes([kept, kept[0]]) == 4000


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the system does not tell in /proc")
def test_peak_memory_of_a_process(tmp_path: Path) -> None:
    """Within a factor of two of what the system says a real run took."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.test_estimate"],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    measured = int(done.stdout)
    exits, documents = big()
    found = estimate(tiny_model(), exits, replace(BIG, steps=2), documents).activation_bytes
    assert found is not None and measured > 100 << 20
    assert measured / 2 < found < measured * 2, (found / 2**20, measured / 2**20)


def grown() -> int:
    """Bytes by which a process's largest memory grows in steps of `BIG`."""
    exits, documents = big()
    small = Documents(documents.training[:2], documents.held_out, "small")
    model = tiny_model().requires_grad_(False)
    ExitsJob(model, exits, small, BIG, "").advance(0)  # imports, and what libraries allocate once
    before = largest()
    job = ExitsJob(model, exits, documents, BIG, "")
    for step in range(BIG.steps):
        job.advance(step)
    return largest() - before


def largest() -> int:
    """Bytes: the most memory this program has had. getrusage's number begins at that of the process that started it."""
    [line] = [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")
    ]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print(grown())
