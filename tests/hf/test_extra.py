"""transformers is an extra: one folder imports it, and says so where it is missing."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest

import offramp
from offramp.errors import UsageError

PACKAGE = Path(offramp.__file__).parent


def imported(file: Path) -> set[str]:
    """First names of the modules that a file imports."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names}


def test_one_folder_imports_it_and_a_peer_that_is_measured() -> None:
    users = {file for file in PACKAGE.rglob("*.py") if "transformers" in imported(file)}
    assert users and {file.parent for file in users} == {PACKAGE / "hf", PACKAGE / "bench" / "peers"}


def test_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("offramp.hf", "transformers"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"offramp\[hf\]"):
        importlib.import_module("offramp.hf")
