"""Engines in processes of their own: a real one, and ways to fail."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from offramp.bench.bandwidth import LEAST, bandwidth, buffer_bytes
from offramp.bench.contender import Job, NotRun, Turn
from offramp.bench.limits import seconds_for
from offramp.bench.ours import Mode, Ours
from offramp.bench.random_models import SHAPES, write_random
from offramp.bench.worker import Worker, contender_named
from offramp.engine.load import dtype_named, load
from offramp.errors import UnknownName

TINY = dict(
    model_type="llama", vocab_size=96, hidden_size=16, intermediate_size=24, max_position_embeddings=512
)
TINY |= dict(num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1)
PROMPTS = [(5, 6, 7, 8)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint with an untrained gate at a quarter."""
    path = tmp_path_factory.mktemp("random")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SHAPES, "tiny", TINY)
        write_random("tiny", path, dtype_named("f32"), gate="linear")
    return path


@pytest.fixture
def job(folder: Path, tmp_path: Path) -> Job:
    return Job("full", folder, tmp_path, tokens=6, max_len=64, threads=1)


def test_random_checkpoints_are_checkpoints(folder: Path) -> None:
    found = load(folder)
    assert found.exits is not None and found.exits.after == (1,)
    with pytest.raises(UnknownName, match="llama-100m"):
        write_random("lama-100m", folder, dtype_named("f32"), gate="linear")


def test_a_worker_loads_takes_turns_and_ends(job: Job) -> None:
    worker = Worker(job)
    try:
        ready = worker.ready(PROMPTS)
        assert ready.about.startswith("offramp") and (ready.memory is None or ready.memory > 0)
        turn = worker.turn(PROMPTS)
        assert turn.decoded == 6 and len(turn.tokens[0]) == 7 and turn.share is not None
        assert worker.bound(PROMPTS) is None
    finally:
        worker.close()
    assert not multiprocessing.active_children()


def test_what_fails_there_is_said_here(job: Job, tmp_path: Path) -> None:
    worker = Worker(replace(job, folder=tmp_path))
    try:
        with pytest.raises(NotRun, match="config.json"):
            worker.ready(PROMPTS)
    finally:
        worker.close()


def test_a_process_that_is_gone_is_not_run(job: Job) -> None:
    worker = Worker(job)
    worker._process.terminate()
    worker._process.join()
    with pytest.raises(NotRun, match="its process ended .SIGTERM"):
        worker.turn(PROMPTS)
    worker.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there a process cannot be held still")
def test_one_that_never_answers_is_not_waited_for(job: Job) -> None:
    worker = Worker(job, limit=lambda what, *_: 0.5 if what == "turn" else 120)
    worker.ready(PROMPTS)
    assert worker._process.pid
    os.kill(worker._process.pid, signal.SIGSTOP)
    with pytest.raises(NotRun, match="no answer within 0.5 s"):
        worker.turn(PROMPTS)
    assert not worker._process.is_alive()
    worker.close()


def test_a_process_that_is_still_loading_can_be_given_up(job: Job) -> None:
    worker = Worker(job, limit=lambda *_: 0.01)
    with pytest.raises(NotRun, match="no answer within 0 s"):
        worker.ready(PROMPTS)
    assert not worker._process.is_alive()
    worker.close()


def test_limits_grow_with_the_work(job: Job, folder: Path) -> None:
    least = seconds_for("turn", job, PROMPTS)
    assert 60 < least < 300
    assert seconds_for("turn", replace(job, tokens=100), PROMPTS) > least + 20
    assert seconds_for("turn", job, PROMPTS * 8) > least + 10
    assert seconds_for("ready", job, PROMPTS) > seconds_for("bound", job, PROMPTS) > least
    assert seconds_for("turn", replace(job, folder=folder / "exits"), PROMPTS) < least, "weights count"


@pytest.mark.parametrize("engine", ["full", "verify", "verify/2", "project", "skip/0"])
def test_our_modes_say_so_many_tokens(job: Job, engine: str) -> None:
    ours = Ours(replace(job, engine=engine, policy="always"))
    turn = ours.run(PROMPTS)
    assert turn.decoded >= 6 and len(turn.tokens[0]) == turn.decoded + 1
    assert turn.weight_bytes is not None and turn.weight_bytes > 0


def test_verify_says_what_full_depth_says(job: Job) -> None:
    full = Ours(job).run(PROMPTS).tokens[0]
    drafted = Ours(replace(job, engine="verify/3", policy="always")).run(PROMPTS).tokens[0]
    assert drafted[: len(full)] == full


def test_full_depth_reads_every_weight_but_the_embedding(job: Job, folder: Path) -> None:
    model = load(folder, "none").model
    sizes = {name: weight.nbytes for name, weight in model.named_parameters()}
    assert Ours(job).run(PROMPTS).weight_bytes == sum(sizes.values()) - sizes["embed.weight"]


def test_many_rows_speak_together(job: Job) -> None:
    several = replace(job, engine="verify", rows=3, max_len=90, policy="always")
    turn = Ours(several).run([(5, 6), (7, 8, 9), (1,)])
    assert turn.decoded >= 18 and turn.decoded == sum(len(row) - 1 for row in turn.tokens)
    assert turn.weight_bytes is None


def test_forced_modes_leave_by_lot(job: Job) -> None:
    project = Ours(replace(job, engine="project", forced=0.8))
    assert (project.sample.policy, project.sample.thresholds) == ("random", (pytest.approx(0.2),))
    verify = Ours(replace(job, engine="verify", forced=0.8))
    assert verify.sample.policy == "always" and verify.sample.sampling.processor is not None


def test_verify_knows_its_bound(job: Job) -> None:
    ours = Ours(replace(job, engine="verify", forced=1.0, max_len=96, tokens=30))
    found = ours.bound(PROMPTS)
    assert found is not None and found.accept == 1.0 and found.below == 0.25
    assert Ours(replace(job, engine="project", policy="always")).bound(PROMPTS) is None


def test_exits_that_are_not_there(job: Job) -> None:
    with pytest.raises(NotRun, match="no exits"):
        Ours(replace(job, engine="verify", exits="none"))


def test_names() -> None:
    assert Mode.named("verify/3") == Mode("verify", 3) and Mode.named("defer") == Mode("defer", "auto")
    assert Mode.named("full") == Mode(None, 0) and Mode.named("verify/x") is Mode.named("llama_cpp") is None
    assert contender_named("skip") is Ours
    with pytest.raises(UnknownName, match="transformers"):
        contender_named("transformer")


def test_a_missing_library_is_named(add_file: object) -> None:
    add_file("offramp.bench.peers", "absent", "import no_such_library_at_all\n")  # type: ignore[operator]
    with pytest.raises(NotRun, match="no_such_library_at_all is not installed"):
        contender_named("absent")


def test_memory_is_read_with_some_speed() -> None:
    assert buffer_bytes(3) >= LEAST // 2 and buffer_bytes(3) % (3 * 4096) == 0
    assert 1e8 < bandwidth(1) < 1e13


def test_a_turns_share_is_weights_over_bandwidth() -> None:
    turn = Turn(0.1, 10, 0.5, ((1,),), weight_bytes=2e6, bandwidth=1e8)
    assert turn.rate == 20 and turn.share == pytest.approx(0.4)
    assert replace(turn, bandwidth=None).share is None
