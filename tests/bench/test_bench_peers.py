"""Other engines on a checkpoint of ours: the same greedy text, every token counted and timed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_bench_worker import PROMPTS, TINY

from offramp.bench.contender import Job, NotRun, Turn
from offramp.bench.ours import Ours
from offramp.bench.worker import PEERS, Worker, contender_named
from offramp.models.checkpoint import save_model
from offramp.models.families import family_for
from offramp.models.initial import init_weights
from offramp.registry import names

MAMBA = dict(model_type="mamba2", vocab_size=96, hidden_size=32, num_hidden_layers=2)
MAMBA |= dict(state_size=8, num_heads=8, head_dim=8, n_groups=2)
RAW: dict[str, dict[str, Any]] = {"llama": TINY, "mamba2": MAMBA}
ALL = [name for name in names(PEERS) if name != "transformers_compiled"]
"""Compiling takes a minute."""


@pytest.fixture(scope="module", params=list(RAW))
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Job:
    family = family_for(request.param)
    model = init_weights(family.build(family.config_from(RAW[request.param])), 0)
    for name, weight in model.named_parameters():
        if weight.dim() > 1 and "A_log" not in name:
            weight.data *= 8  # far from ties, which other kernels may break otherwise
    folder = tmp_path_factory.mktemp(request.param)
    save_model(model, folder)
    return Job("full", folder, folder, tokens=6, max_len=64, threads=1)


def turn_of(name: str, job: Job) -> Turn | None:
    """None where it does not serve models with a state. Skipped where its library is missing, or not for this
    machine: llama.cpp built for another ends its process, so it has one of its own."""
    job = replace(job, engine=name)
    try:
        return (
            turn_elsewhere(job) if name.startswith("llama_cpp") else contender_named(name)(job).run(PROMPTS)
        )
    except ValueError as error:
        assert "stateful" in str(error)
        return None
    except NotRun as reason:
        pytest.skip(str(reason))


def turn_elsewhere(job: Job) -> Turn:
    worker = Worker(job)
    try:
        return worker.turn(PROMPTS)
    finally:
        worker.close()


@pytest.mark.parametrize("name", ALL)
def test_they_say_what_full_depth_says(name: str, job: Job) -> None:
    if (turn := turn_of(name, job)) is None:
        return
    assert len(turn.tokens[0]) == 7 and 1 <= turn.decoded <= 6
    assert turn.first > 0 and turn.seconds > 0
    if "q8" not in name and "f16" not in name:
        assert turn.tokens == Ours(job).run(PROMPTS).tokens


@pytest.mark.parametrize("name", [name for name in ALL if name != "llama_cpp_q8_0"])
def test_a_token_reads_what_ours_reads(name: str, job: Job) -> None:
    if (turn := turn_of(name, job)) is None:
        return
    found = turn.weight_bytes
    ours = Ours(job).run(PROMPTS).weight_bytes
    assert ours is not None
    if "f16" in name:
        assert found is not None and 0.5 * ours <= found < ours
    elif found is not None:
        assert found == pytest.approx(ours, rel=0.02)
    else:
        assert "early_exit" in name or "lookup" in name


@pytest.mark.parametrize("name", ALL)
def test_they_run_one_row(name: str, job: Job, tmp_path: Path) -> None:
    with pytest.raises(NotRun, match="one row|not installed"):
        contender_named(name)(replace(job, engine=name, rows=2, scratch=tmp_path))
