"""Small files are read within limits, and whatever cannot be read is an error that names the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from offramp.errors import CheckpointError, ExitsError
from offramp.files import read_json, read_text


def test_an_object_comes_back(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"word": "é"}', encoding="utf-8")
    assert read_json(tmp_path / "a.json", 100, ExitsError) == {"word": "é"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "cannot be read as JSON"),
        (b"[1]", "must hold a JSON object"),
        (b'{"a": ' * 100_000, "cannot be read as JSON"),
        (b'{"a": 1' + b"0" * 10_000 + b"}", "cannot be read as JSON"),
        (b'"\xff"', "cannot be read as UTF-8"),
        (b" " * (1 << 20), "larger than 1,000,000 bytes"),
    ],
)
def test_damage_is_the_callers_error(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"a.json.*{words}"):
        read_json(tmp_path / "a.json", 1_000_000, CheckpointError)


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    """Opening a pipe would wait for a writer for ever; /dev/zero would never end."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "zeros"):
        with pytest.raises(ExitsError, match="not a regular file"):
            read_text(path, 100, ExitsError)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("none", "nul\0"):
        with pytest.raises(ExitsError, match="cannot be read"):
            read_text(tmp_path / name, 100, ExitsError)
