"""Every way to fail is one line on stderr and the right exit code; help does not wait for torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from offramp.cli import app
from offramp.errors import CheckpointError, DataError, UsageError
from offramp.registry import names

VERBS = names(app.VERBS)
HEAVY = {"torch", "numpy", "safetensors", "tokenizers", "transformers", "matplotlib"}


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    settings = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=settings)


@pytest.mark.parametrize("argv", [["--help"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_imports_nothing_heavy(argv: list[str]) -> None:
    """`offramp --help` answers within half a second because it does not import torch."""
    done = python(
        f"import sys; from offramp.cli.app import main; code = main({argv});"
        f"print(sorted({HEAVY} & set(sys.modules)), code, file=sys.stderr)"
    )
    assert done.stderr.split() == ["[]", "0"]
    assert all(verb in done.stdout for verb in (VERBS if argv == ["--help"] else argv[:1]))


def test_importing_offramp_imports_nothing_heavy() -> None:
    done = python(f"import sys, offramp; print(sorted({HEAVY} & set(sys.modules)))")
    assert done.stdout.strip() == "[]", done.stderr


def test_the_version_is_the_package_s(run: Any) -> None:
    import offramp

    assert run("--version").out.strip() == offramp.__version__


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["genrate"], 'Did you mean "generate"'),
        (["generate"], "MODEL"),
        (["generate", "m", "hi", "--temprature", "1"], "Did you mean --temperature"),
        (["generate", "m", "--temprature"], "unknown option --temprature"),
        (["generate", "m", "hi", "--device", "tpu"], "cpu"),
        (["generate", "m", "hi", "--threshold", "high"], "threshold"),
        (["generate", "m", ""], "prompt is empty"),
        (["generate", "m", "hi", "--temperature", "-1"], "temperature is -1"),
    ],
)
def test_what_cannot_be_asked_is_a_usage_error(run: Any, argv: list[str], said: str) -> None:
    result = run(*argv)
    assert result.code == 2 and result.out == ""
    assert result.err.startswith("error: ") and said in result.err
    assert result.err.count("\n") == 1, "one line"


@pytest.mark.parametrize(
    ("error", "code"), [(UsageError("a\nb"), 2), (CheckpointError("a\nb"), 1), (DataError("a\nb"), 1)]
)
def test_library_errors_have_their_exit_codes(
    run: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    fail_with(error, monkeypatch)
    result = run("inspect", "m")
    assert (result.code, result.err) == (code, "error: a b\n")


def test_ctrl_c_is_130(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(KeyboardInterrupt(), monkeypatch)
    result = run("inspect", "m")
    assert (result.code, result.err) == (130, "error: interrupted\n")


def test_a_mistake_of_ours_says_how_to_see_its_traceback(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(AssertionError("a bug\n#1 a frame"), monkeypatch)
    result = run("inspect", "m")
    assert result.code == 1
    assert (
        result.err == "error: AssertionError: a bug (a bug of ours: run again with --debug and report it)\n"
    )
    with pytest.raises(AssertionError, match="a bug"):
        run("inspect", "m", "--debug")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NotADirectoryError(20, "Not a directory", "/etc/passwd/x"), "Not a directory: /etc/passwd/x"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ConnectionError("the hub is away"), "the hub is away"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), "not enough memory"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    run: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    fail_with(error, monkeypatch)
    result = run("inspect", "m")
    assert (result.code, result.err) == (1, f"error: {said}\n")


def test_an_error_does_not_move_the_cursor(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(CheckpointError("\x1b[2J\x1b]0;title\x07 \x9b1m \ud800"), monkeypatch)
    assert run("inspect", "m").err == "error: \ufffd[2J\ufffd]0;title\ufffd \ufffd1m \ufffd\n"


def test_what_a_file_makes_an_error_quote_is_shortened(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(CheckpointError("wrong: " + "x" * 100_000 + "; do this"), monkeypatch)
    said = run("inspect", "m").err
    assert len(said) < 2100 and said.startswith("error: wrong: x") and said.endswith("x; do this\n")


def test_debug_shows_where_an_error_came_from(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(UsageError("wrong"), monkeypatch)
    with pytest.raises(UsageError):
        run("inspect", "m", "--debug")
    monkeypatch.setenv("OFFRAMP_DEBUG", "1")
    with pytest.raises(UsageError):
        run("inspect", "m")


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """`offramp inspect` raises `error`."""
    from offramp.cli import inspection

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(inspection, "run", fail)


def test_a_reader_that_leaves_is_no_traceback() -> None:
    """`offramp ... | head -1` must end quietly."""
    command = f"{sys.executable} -m offramp --help | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("--help > /dev/full", 1, "error: No space left on device\n"),
        ("--help >&-", 0, ""),
        ("generate model <&-", 2, "error: the prompt is empty; give at least one character.\n"),
        ("genrate 2>&-", 2, ""),
    ],
)
def test_streams_that_are_closed_or_full(command: str, code: int, said: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m offramp {command}"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.parametrize("verb", sorted({*VERBS} - {"convert", "export", "push", "report"}))
def test_every_verb_that_computes_says_where(run: Any, verb: str) -> None:
    told = run(verb, "--help").out
    assert "--device" in told and "--dtype" in told


def test_a_new_file_is_a_new_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    from offramp.cli import verbs

    (tmp_path / "greet.py").write_text('def greet() -> int:\n    """Say nothing."""\n    return 7\n')
    monkeypatch.setattr(verbs, "__path__", [*verbs.__path__, str(tmp_path)])
    assert run("greet").code == 7
    assert "Say nothing" in run("--help").out
