"""What all tests share."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# A shared or slow machine must not fail a test for its clock; what fails in CI must fail again at home.
settings.register_profile("offramp", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("offramp")

AddFile = Callable[[str, str, str], None]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Bits must not depend on how a test machine splits its work, and tiny models gain nothing by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def timings_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests measure is not kept in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFRAMP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def add_file(tmp_path: Path) -> Iterator[AddFile]:
    """Writes NAME.py where a package finds its plug-ins, for one test."""
    undo: list[tuple[str, str]] = []

    def add(package: str, name: str, source: str) -> None:
        folder = tmp_path / package
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(source)
        importlib.import_module(package).__path__.append(str(folder))
        importlib.invalidate_caches()
        undo.append((package, name))

    yield add
    for package, name in undo:
        importlib.import_module(package).__path__.pop()
        sys.modules.pop(f"{package}.{name}", None)
