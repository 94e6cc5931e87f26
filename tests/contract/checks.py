"""The tests of the contract as a list: what they do for the files there are can be done for one more."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

from offramp import registry

Check = Callable[..., None]


def contract(folder: str) -> list[tuple[Check, dict[str, Any]]]:
    """The tests in this directory that run once for each plug-in of a folder, with their other parameters.

    To be asked before a file is added: it compares the names there are with those the tests were made for.
    """
    known = set(registry.names(folder))
    return [check for file in sorted(Path(__file__).parent.glob("test_*.py")) for check in _of(file, known)]


def _of(file: Path, known: set[str]) -> Iterator[tuple[Check, dict[str, Any]]]:
    for _, function in inspect.getmembers(importlib.import_module(file.stem), inspect.isfunction):
        marks = [mark for mark in getattr(function, "pytestmark", ()) if mark.name == "parametrize"]
        parameters = {mark.args[0]: mark.args[1] for mark in marks}
        mine = set(parameters.pop("name", ()))
        if mine and mine <= known and function.__module__ == file.stem:
            for values in product(*parameters.values()):
                yield function, dict(zip(parameters, values, strict=True))


def hold_to(checks: list[tuple[Check, dict[str, Any]]], name: str, tmp_path: Path) -> None:
    """Run the checks on the plug-in `name`."""
    for number, (check, arguments) in enumerate(checks):
        if "tmp_path" in inspect.signature(check).parameters:
            arguments = arguments | {"tmp_path": tmp_path / f"{name}-{number}"}
        check(name=name, **arguments)
