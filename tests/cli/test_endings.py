"""A command that is told to end removes what is temporary; once it is over nothing changes its exit code."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

VERB = """
import sys
from offramp.cli import app, verbs

verbs.__path__.append(sys.argv.pop(1))
sys.exit(app.main())
"""
WAITS = '''
import tempfile, time

def wait() -> None:
    """Wait beside a temporary folder."""
    with tempfile.TemporaryDirectory(dir=FOLDER):
        print("ready", flush=True)
        time.sleep(60)
'''
ENDS = '''
import atexit, os, signal, time

def end() -> int:
    """End; while Python does, a signal comes."""
    atexit.register(lambda: (os.kill(os.getpid(), signal.NUMBER), time.sleep(0.2)))
    return 7
'''
STAYS = '''
import os, signal

def stay() -> int:
    """Hear a signal, and stay."""
    os.kill(os.getpid(), signal.SIGTERM)
    return 7
'''


def start(folder: Path, name: str, verb: str) -> subprocess.Popen[str]:
    """`offramp NAME` with a verb of this source."""
    (folder / f"{name}.py").write_text(verb)
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job ignores it
    command = [sys.executable, "-c", heard + VERB, str(folder), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_temporary_goes_with_the_command(tmp_path: Path, number: signal.Signals) -> None:
    used = tmp_path / "used"
    used.mkdir()
    with start(tmp_path, "wait", WAITS.replace("FOLDER", repr(str(used)))) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        assert list(used.iterdir())
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "error: interrupted\n")
    assert not list(used.iterdir())


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_while_python_ends_changes_nothing(tmp_path: Path, name: str) -> None:
    with start(tmp_path, "end", ENDS.replace("NUMBER", name)) as process:
        said = process.communicate(timeout=60)
    assert (said, process.returncode) == (("", ""), 7)


def test_a_parent_that_wants_sigterm_ignored_is_obeyed(tmp_path: Path) -> None:
    """As Python itself does with Ctrl-C, of commands in the background."""
    (tmp_path / "stay.py").write_text(STAYS)
    ignored = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{VERB}"
    done = subprocess.run([sys.executable, "-c", ignored, str(tmp_path), "stay"], timeout=60)
    assert done.returncode == 7
