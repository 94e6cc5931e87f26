"""The tests of the contract as functions: what they do for the files there are can be done for one that a test adds."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

Check = Callable[..., None]
HERE = Path(__file__).parent
ABOUT_ALL = ("test_grid.py", "test_plugins.py")
"""They are about plug-ins of several folders together."""


def contract(name: str) -> list[tuple[Check, dict[str, Any]]]:
    """The tests in this directory, and their arguments, that are about the plug-in `name` as the folders are now."""
    files = [file for file in sorted(HERE.glob("test_*.py")) if file.name not in ABOUT_ALL]
    return [
        (function, arguments)
        for file in files
        for _, function in inspect.getmembers(_fresh(file), inspect.isfunction)
        if function.__name__.startswith("test_")
        for arguments in _arguments(function)
        if arguments.get("name") == name
    ]


def hold_to_contract(name: str, tmp_path: Path) -> int:
    """Run them; how many there were."""
    checks = contract(name)
    for number, (check, arguments) in enumerate(checks):
        if "tmp_path" in inspect.signature(check).parameters:
            arguments["tmp_path"] = tmp_path / f"{name}-{number}"
        check(**arguments)
    return len(checks)


def _fresh(file: Path) -> Any:
    """The module read again: what it is parametrized by depends on the files there are."""
    name = f"again_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    del sys.modules[name]
    return module


def _arguments(function: Check) -> Iterator[dict[str, Any]]:
    """Every combination that pytest would run the test with."""
    marks = [mark for mark in getattr(function, "pytestmark", ()) if mark.name == "parametrize"]
    for chosen in product(*(mark.args[1] for mark in marks)):
        arguments: dict[str, Any] = {}
        for mark, value in zip(marks, chosen, strict=True):
            alone = isinstance(mark.args[0], str)
            arguments |= {mark.args[0]: value} if alone else dict(zip(mark.args[0], value, strict=True))
        yield arguments
