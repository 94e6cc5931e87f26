"""Rules about the source that no linter of ours knows. import-linter checks the direction of imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "offramp").rglob("*.py"))
LINES, FUNCTION_LINES = 400, 60

RUNS_CODE, RUNS_PROGRAMS = "runs code that comes with its data", "runs other programs"
FORBIDDEN = {
    "torch.load": f"{RUNS_CODE}; use safetensors",
    "torch.save": "writes a pickle; use safetensors",
    "torch.einsum": "its kernels depend on the number of rows",
    **dict.fromkeys(("numpy.load", "pandas.read_pickle", "torch.hub", "torch.jit.load"), RUNS_CODE),
    **dict.fromkeys(("eval", "exec", "__import__", "builtins"), RUNS_CODE),
    **dict.fromkeys(("pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml"), RUNS_CODE),
    **dict.fromkeys(("os.system", "os.popen", "os.startfile", "pty", "subprocess"), RUNS_PROGRAMS),
}
"""Modules and what is in them; everything in a module that is named here is forbidden too."""
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


def origins(tree: ast.AST) -> dict[str, str]:
    """What imported names mean: {"np": "numpy", "read": "torch.load"}."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return found


def mentions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """("torch.load", line) of every import and every use, under whatever name it was imported."""
    meant = origins(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Name | ast.Attribute):
            first, dot, rest = ast.unparse(node).partition(".")
            yield meant.get(first, first) + dot + rest, node.lineno


def dangers(tree: ast.AST) -> list[str]:
    """The forbidden things that a file imports or uses, with their lines."""
    return [
        f"{line}: {name} {why}"
        for name, line in mentions(tree)
        for bad, why in FORBIDDEN.items()
        if name == bad or name.startswith(f"{bad}.")
    ]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_nothing_dangerous_is_used() -> None:
    assert not [f"{path}:{danger}" for path, tree in trees() for danger in dangers(tree)]


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(f)",
        "import torch as t\nread = t.load",
        "from torch import load",
        "from torch import load as read\nread(f)",
        "import pickle",
        "from pickle import loads as read",
        "from yaml import safe_load",
        "import os\nos.system(c)",
        "from os import system",
        "import subprocess as s",
        "eval(text)",
        "run = exec",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
    ],
)
def test_danger_is_seen_under_any_name(source: str) -> None:
    assert dangers(ast.parse(source))


def test_namesakes_are_no_danger() -> None:
    """Our own `load`, and `eval` of a module, which is another thing."""
    assert not dangers(
        ast.parse("from offramp.engine import load\nload.load(f)\nmodel.eval()\nre.compile(x)")
    )


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
