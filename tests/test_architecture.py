"""Rules about the source that no linter of ours knows. import-linter checks the direction of imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "offramp").rglob("*.py"))
LINES, FUNCTION_LINES = 400, 60

FORBIDDEN = {
    "torch.load": "runs code of a pickle; use safetensors",
    "torch.save": "writes a pickle; use safetensors",
    "pickle.load": "runs code",
    "pickle.loads": "runs code",
    "eval": "runs code",
    "exec": "runs code",
    "os.system": "runs a shell",
    "torch.einsum": "its kernels depend on the number of rows",
}
TALKING = {"cli", "zoo"}
"""Folders that talk to people; those of zoo are scripts."""


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for file in FILES:
        yield file.relative_to(ROOT), ast.parse(file.read_text(encoding="utf-8"))


def calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """("torch.load", line) of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_nothing_dangerous_is_called() -> None:
    found = [
        f"{path}:{line}: {name} {FORBIDDEN[name]}"
        for path, tree in trees()
        for name, line in calls(tree)
        if name in FORBIDDEN
    ]
    assert not found


def test_only_the_command_line_and_scripts_print() -> None:
    found = [
        f"{path}:{line}"
        for path, tree in trees()
        for name, line in calls(tree)
        if name == "print" and path.parts[1] not in TALKING
    ]
    assert not found


def test_nothing_grows_without_end() -> None:
    long_files = [str(file) for file in FILES if file.read_text(encoding="utf-8").count("\n") > LINES]
    long_functions = [
        f"{path}:{node.lineno} {node.name}"
        for path, tree in trees()
        for node in functions(tree)
        if (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES
    ]
    assert not long_files + long_functions


def test_imports_are_late_only_in_the_command_line() -> None:
    """A late import can hide a cycle. Verbs may (cli/app.py says why), the package's `__getattr__` must."""
    found = [
        f"{path}:{inner.lineno}"
        for path, tree in trees()
        if path.parts[1] not in ("cli", "__init__.py")
        for node in functions(tree)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]
    assert not found
