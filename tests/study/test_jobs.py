"""The runner: order, resume, failures, dead processes, kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from offramp.errors import DataError
from offramp.study import jobs
from offramp.study.results import Job, in_order, keys, read_result, result_file
from tests.study.work_for_jobs import work


def plan(folder: Path, **more: dict[str, object]) -> list[Job]:
    """b needs a; d needs b and c."""
    log = str(folder / "log")
    shapes = {"a": ((), 1), "b": (("a",), 2), "c": ((), 4), "d": (("b", "c"), 8)}
    return [
        Job(name, "test", {"log": log, "value": value, **more.get(name, {})}, needs)
        for name, (needs, value) in shapes.items()
    ]


def ran(folder: Path) -> list[str]:
    return (folder / "log").read_text().split()


def run(folder: Path, todo: list[Job], processes: int = 2) -> tuple[jobs.Summary, list[jobs.Update]]:
    told: list[jobs.Update] = []
    return jobs.run(todo, work, folder, processes, told.append), told


def test_what_a_job_needs_is_given_to_it_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    summary, told = run(tmp_path, plan(tmp_path))
    assert {name: result.found["value"] for name, result in summary.results.items()} == {
        "a": 1,
        "b": 3,
        "c": 4,
        "d": 15,
    }
    assert [update.state for update in told] == ["done"] * 4 and told[-1].done == told[-1].total == 4
    again, told = run(tmp_path, plan(tmp_path))
    assert [update.state for update in told] == ["kept"] * 4
    assert again.results == summary.results and sorted(ran(tmp_path)) == ["a", "b", "c", "d"]


def test_other_settings_are_another_result_for_the_job_and_those_that_need_it(tmp_path: Path) -> None:
    before, after = keys(plan(tmp_path)), keys(plan(tmp_path, b={"value": 3}))
    assert {name for name in before if before[name] != after[name]} == {"b", "d"}
    run(tmp_path, plan(tmp_path))
    summary, told = run(tmp_path, plan(tmp_path, b={"value": 3}))
    assert summary.results["d"].found["value"] == 16
    assert [update.job.name for update in told if update.state == "kept"] == ["a", "c"]


def test_a_failed_job_loses_only_those_that_need_it(tmp_path: Path) -> None:
    summary, _ = run(tmp_path, plan(tmp_path, b={"fails": True}))
    assert set(summary.results) == {"a", "c"}
    assert summary.failed == {"b": "ValueError: asked to fail"} and summary.left_out == {"d": "b failed"}
    told = next((tmp_path / "results").glob("b.*.error.txt")).read_text()
    assert "asked to fail" in told and "Traceback" in told


def test_a_process_that_dies_is_tried_again_and_then_given_up(tmp_path: Path) -> None:
    summary, _ = run(tmp_path, plan(tmp_path, b={"dies": "once"}), processes=1)
    assert set(summary.results) == {"a", "b", "c", "d"} and ran(tmp_path).count("b") == 2
    other = tmp_path / "other"
    other.mkdir()
    summary, _ = run(other, plan(other, b={"dies": "always"}), processes=1)
    assert set(summary.results) == {"a", "c"} and "died" in summary.failed["b"]
    assert ran(other).count("b") == 2


def test_nothing_runs_beside_a_job_that_measures_time(tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    todo = [Job(f"j{i}", "test", {"log": log, "sleeps": 0.1, "i": i}, alone=i in (0, 3)) for i in range(6)]
    summary, _ = run(tmp_path, todo)
    spans = {name: result.found["span"] for name, result in summary.results.items()}
    for alone in ("j0", "j3"):
        begin, end = spans.pop(alone)
        assert all(stop <= begin or start >= end for start, stop in spans.values())


def test_a_result_that_is_none_is_refused(tmp_path: Path) -> None:
    todo = plan(tmp_path)[:1]
    run(tmp_path, todo)
    result_file(tmp_path, "a", keys(todo)["a"]).write_text('{"format": 1, "name": "a"}')
    with pytest.raises(DataError, match="no result of a study: kind, settings, found, seconds"):
        run(tmp_path, todo)


def test_the_longest_chain_begins_first() -> None:
    todo = [
        Job("short", "k", seconds=3),
        Job("long", "k", seconds=2),
        Job("after", "k", needs=("long",), seconds=9),
    ]
    assert jobs.critical_path(todo) == {"short": 3, "long": 11, "after": 9}
    assert jobs.expected_seconds(todo, 2) == 11 and jobs.expected_seconds(todo, 1) == 14
    timed = [*todo, Job("timed", "k", seconds=5, alone=True)]
    assert jobs.expected_seconds(timed, 4) == 16
    assert [job.name for job in in_order(reversed(todo))] == ["long", "short", "after"]


def test_a_killed_study_goes_on(tmp_path: Path) -> None:
    """Killed while its second job sleeps; its processes end with it; the first job's result is kept."""
    code = (
        "import sys; from pathlib import Path\n"
        "from offramp.study import jobs\n"
        "from tests.study.test_jobs import plan\n"
        "from tests.study.work_for_jobs import work\n"
        "if __name__ == '__main__':\n"
        "    jobs.run(plan(Path(sys.argv[1]), b={'sleeps': 60.0}), work, Path(sys.argv[1]), 1, print)\n"
    )
    script = tmp_path / "killed.py"
    script.write_text(code)
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.DEVNULL,
    ) as child:
        until(lambda: (tmp_path / "log").exists() and "b" in ran(tmp_path))
        child.send_signal(signal.SIGKILL)
    names = {path.name.split(".")[0] for path in (tmp_path / "results").glob("*.json")}
    assert "a" in names and "b" not in names
    summary, told = run(tmp_path, plan(tmp_path))
    assert set(summary.results) == {"a", "b", "c", "d"}
    assert ran(tmp_path).count("a") == 1


def until(done: object, seconds: float = 60.0) -> None:
    assert callable(done)
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signal masks on this system")
def test_ctrl_c_is_the_parents_alone_to_hear(tmp_path: Path) -> None:
    """A terminal sends it to all: children would die with a traceback each."""
    _, told = run(tmp_path, [Job("a", "mask", {"log": str(tmp_path / "log"), "value": 1})])
    assert [update.state for update in told] == ["done"], told
    assert read_result(tmp_path, "a", keys([told[0].job])["a"]).found["deaf"]  # type: ignore[union-attr]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
