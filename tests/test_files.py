"""Small files are read within limits; a folder takes the place of one of its own kind only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from offramp.errors import CheckpointError, ExitsError, OfframpError
from offramp.files import read_json, read_text, whole_folder


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


FILES = ("a", "b")


def write(folder: Path, text: str = "new") -> None:
    with whole_folder(folder, FILES) as fresh:
        for name in FILES:
            (fresh / name).write_text(text)


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_replaces_nothing_an_empty_folder_or_its_like(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty", "deep/er"):
        for text in ("first", "second"):
            write(tmp_path / name, text)
            assert contents(tmp_path / name) == {"a": text, "b": text}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "empty", "new"]


@pytest.mark.parametrize("there", [("a", "b", "c"), ("a",), ("c",), ("a/x", "b"), ("a", "b", "c/d/e")])
def test_a_folder_with_anything_else_stays_as_it_is(tmp_path: Path, there: tuple[str, ...]) -> None:
    for name in there:
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text("precious")
    before = contents(tmp_path)
    with pytest.raises(OfframpError, match="mine is not replaced: it holds"):
        write(tmp_path / "mine")
    assert contents(tmp_path) == before


def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OfframpError, match="file is a file"):
            write(target)
    assert contents(tmp_path) == {"file": "precious"}


def test_here_is_a_folder_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c").write_text("precious")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OfframpError, match="it holds c"):
        write(Path("."))


def test_a_block_that_fails_leaves_the_old_folder(tmp_path: Path) -> None:
    write(tmp_path / "mine", "old")
    with pytest.raises(KeyError), whole_folder(tmp_path / "mine", FILES) as fresh:
        (fresh / "a").write_text("new")
        raise KeyError
    assert contents(tmp_path) == {"mine/a": "old", "mine/b": "old"}


def test_whatever_fails_in_between_one_of_the_two_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old folder has made way, and the new one cannot be put there."""
    write(tmp_path / "mine", "old")
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name.endswith(".new"):
            raise OSError("disk gone")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="disk gone"):
        write(tmp_path / "mine")
    assert set(contents(tmp_path).values()) == {"old"}
