"""The library of kernels: which one is taken, and what is said where there is none."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from offramp.errors import CapacityError, UsageError
from offramp.native import library as module
from offramp.native.library import Library, find, load, runnable, why_not

needs_library = pytest.mark.skipif(not runnable(), reason="no kernels were built here")


@pytest.fixture(autouse=True)
def looked_afresh() -> Iterator[None]:
    """What is found is kept for the process."""
    module._look.cache_clear()
    yield
    module._look.cache_clear()


def choose(patch: pytest.MonkeyPatch, isa: str) -> None:
    patch.setenv("OFFRAMP_KERNELS", isa)


def test_with_a_compiler_there_are_kernels() -> None:
    """An install without a compiler succeeds, so with one it must not fail unseen."""
    if shutil.which("cc") is None and not runnable():
        pytest.skip("no C compiler here")
    assert find() is not None and why_not() == ""


@needs_library
def test_the_best_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OFFRAMP_KERNELS", raising=False)
    found = find()
    assert found is not None and found.isa == runnable()[0]
    assert find() is found, "one for the process"


@needs_library
@pytest.mark.parametrize("isa", runnable())
def test_every_one_that_runs_here_may_be_chosen(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, isa)
    found = find()
    assert found is not None and found.isa == isa and found is load(isa)


def test_doing_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was asked for, so nobody needs to be told why."""
    choose(monkeypatch, "none")
    assert find() is None and why_not() == ""


@pytest.mark.parametrize("wanted", ["sse9", "../avx2"])
def test_one_that_cannot_run_here(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, wanted)
    with pytest.raises(UsageError, match=f"{wanted}.*this machine can run: auto, none"):
        find()


def test_a_processor_without_the_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_runs", lambda isa: isa in ("plain", "neon"))
    assert set(runnable()) <= {"plain", "neon"}
    choose(monkeypatch, "avx512")
    with pytest.raises(UsageError, match="avx512"):
        find()


def test_where_none_were_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("OFFRAMP_KERNELS", raising=False)
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    with caplog.at_level(logging.INFO, "offramp"):
        assert find() is None and find() is None
    assert "not built" in why_not() and "PyTorch" in why_not() and "installing offramp again" in why_not()
    assert caplog.messages == [why_not()], "once"


@needs_library
def test_a_damaged_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OFFRAMP_KERNELS", raising=False)
    isa = runnable()[-1]
    (tmp_path / f"offramp-{isa}{module.SUFFIX}").write_bytes(b"no library")
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    load.cache_clear()
    assert find() is None and "cannot be used" in why_not()
    load.cache_clear()


@needs_library
def test_a_library_of_other_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its structures would be others: nothing of it may be called."""
    monkeypatch.delenv("OFFRAMP_KERNELS", raising=False)
    monkeypatch.setattr(module, "ABI", -1)
    load.cache_clear()
    assert find() is None and "other sources" in why_not()
    load.cache_clear()


@needs_library
def test_a_kernel_that_is_not_there() -> None:
    found = find()
    assert isinstance(found, Library) and found.kernel("offramp_run") > 0
    with pytest.raises(AssertionError, match="no kernel nonsense"):
        found.kernel("nonsense")


@needs_library
def test_threads_that_the_system_does_not_give() -> None:
    found = Library(runnable()[0], module._file(runnable()[0]))
    found.threads = 1 << 40
    with pytest.raises(CapacityError, match="OFFRAMP_THREADS"):
        found.run((module.Step * 0)(), 0, module.Call())


@needs_library
def test_it_is_found_wherever_python_was_started(tmp_path: Path) -> None:
    code = "from offramp.native.library import find; assert find() is not None"
    environment = {key: value for key, value in os.environ.items() if key != "OFFRAMP_KERNELS"}
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True)
    assert ran.returncode == 0, ran.stderr
