"""--threads and what stands in for it; torch and the kernels get the same number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from offramp.cli import threads
from offramp.native import library as native

FEW = ("a", "--max-tokens", "2")


@pytest.fixture(autouse=True)
def threads_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing said, whatever the machine; afterwards as other tests want it."""
    for name in ("OFFRAMP_THREADS", "OFFRAMP_KERNELS"):
        monkeypatch.delenv(name, raising=False)
    library = native.find()
    before = library.threads if library else 0
    yield
    if library:
        library.threads = before


def given() -> set[int]:
    """Torch's threads, and the kernels' where there are any."""
    library = native.find()
    return {torch.get_num_threads(), library.threads if library else torch.get_num_threads()}


def test_the_option_comes_first(run: Any, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFRAMP_THREADS", "3")
    assert run("generate", checkpoint, *FEW, "--threads", "2").code == 0 and given() == {2}
    assert run("generate", checkpoint, *FEW).code == 0 and given() == {3}
    monkeypatch.delenv("OFFRAMP_THREADS")
    assert run("generate", checkpoint, *FEW).code == 0 and given() == {1}


def test_a_large_model_gets_what_the_machine_has(
    run: Any, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "SMALL", 0)
    monkeypatch.setattr(threads, "default_threads", lambda: 2)
    assert run("generate", checkpoint, *FEW).code == 0 and given() == {2}


def test_verbs_that_do_not_generate_text_have_it_too(run: Any, checkpoint: Path) -> None:
    assert run("inspect", checkpoint, "--threads", "2").code == 0 and given() == {2}


@pytest.mark.parametrize("count", ["0", "-2"])
def test_no_threads(run: Any, checkpoint: Path, count: str) -> None:
    refused = run("generate", checkpoint, *FEW, f"--threads={count}")
    assert refused.code == 2 and "at least 1" in refused.err


def test_without_kernels_stderr_says_so_once(
    run: Any, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    native._look.cache_clear()
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    said = run("generate", checkpoint, *FEW, "--json")
    assert said.code == 0 and said.err.count("kernels were not built") == 1 and "kernels" not in said.out
    monkeypatch.setenv("OFFRAMP_KERNELS", "none")
    assert "kernels" not in run("generate", checkpoint, *FEW).err, "it was asked for"
    native._look.cache_clear()


def test_kernels_this_machine_cannot_run(run: Any, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFRAMP_KERNELS", "abacus")
    refused = run("generate", checkpoint, *FEW)
    assert refused.code == 2 and "OFFRAMP_KERNELS is 'abacus'" in refused.err
