"""The first token does not wait for libraries that it does not need."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from offramp.zoo.bundled import HOME

UNUSED = {
    "datasets",
    "fastapi",
    "huggingface_hub.errors",
    "matplotlib",
    "scipy.special",
    "sympy",
    "transformers",
}
"""Each takes longer to import than a small model to load."""
FIRST = """
import sys
from offramp.cli.app import main
code = main(["generate", sys.argv[1], "def f(x):", "--max-tokens", "2"])
print(code, *sorted(sys.modules))
"""


@pytest.mark.skipif(not HOME.is_dir(), reason="the bundled checkpoints are not trained yet")
def test_generating_imports_only_what_it_uses() -> None:
    settings = {**os.environ, "OFFRAMP_THREADS": "1"}
    command = [sys.executable, "-c", FIRST, "tiny-transformer"]
    done = subprocess.run(command, capture_output=True, text=True, env=settings)
    code, *imported = done.stdout.splitlines()[-1].split()
    assert code == "0", done.stderr
    assert "torch" in imported and not UNUSED & set(imported)
    verbs = [name for name in imported if name.startswith("offramp.cli.verbs.")]
    assert verbs == ["offramp.cli.verbs.generate"]
