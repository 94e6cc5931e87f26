"""How many threads a process uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from offramp.errors import UsageError
from offramp.native import threads
from offramp.native.threads import default_threads, threads_said, usable_cores


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OFFRAMP_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "usable_cores", lambda: 4)
    monkeypatch.setattr(threads, "PAUSE", 0.0)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    threads._threads_left.cache_clear()


@pytest.mark.parametrize(("running", "count"), [(1, 4), (2, 3), (9, 3)])
def test_one_core_is_left_to_a_busy_process(
    running: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process itself is one of those that run."""
    monkeypatch.setattr(threads, "_running", lambda: running)
    assert default_threads() == count


def test_it_is_decided_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_running", lambda: 1)
    assert default_threads() == 4
    monkeypatch.setattr(threads, "_running", lambda: 5)
    assert default_threads() == 4


def test_a_moment_is_not_a_busy_process(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter((1, 4, 1, 1, 3))
    monkeypatch.setattr(threads, "_running", lambda: next(looks))
    assert default_threads() == 4


def test_processes_on_cores_we_may_not_use_are_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(threads, "_running", lambda: 13)
    assert default_threads() == 4


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> int:
        raise FileNotFoundError("/proc/loadavg")

    monkeypatch.setattr(threads, "_running", nothing)
    assert default_threads() == 3


def test_a_single_core_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 1)
    monkeypatch.setattr(threads, "_running", lambda: 30)
    assert default_threads() == 1


def test_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2,4")
    assert (default_threads(), threads_said()) == (2, None)
    monkeypatch.setenv("OFFRAMP_THREADS", "5")
    assert (default_threads(), threads_said()) == (5, 5)


@pytest.mark.parametrize("said", ["0", "-1", "many", "2.5"])
def test_no_count(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFRAMP_THREADS", said)
    with pytest.raises(UsageError, match=f"OFFRAMP_THREADS is '{said}'"):
        default_threads()


@pytest.mark.parametrize(("text", "count"), [("max 100000", 8), ("250000 100000", 2), ("", 8)])
def test_what_a_container_may_compute(text: str, count: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert threads._quota(tmp_path / "cpu.max", 8) == count
    assert threads._quota(tmp_path / "none", 8) == 8


def test_half_a_core_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(threads, "_quota", lambda file, cores: 0)
    assert usable_cores() == 1
