"""Data sets of the hub are read as they arrive, and no further than asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offramp.data.documents import load_documents
from offramp.data.hub import Remote, is_remote
from offramp.data.reading import read_documents
from offramp.errors import DataError, UsageError


class Library:
    """As much of `datasets` as is used: endless rows, counted, which break at one of them."""

    def __init__(self, breaks_at: int = 10**6) -> None:
        self.breaks_at = breaks_at
        self.asked: list[tuple[Any, ...]] = []
        self.given = 0

    def load_dataset(
        self, name: str, config: str | None, *, split: str, streaming: bool
    ) -> Iterator[dict[str, Any]]:
        self.asked.append((name, config, split, streaming))
        return self._rows()

    def _rows(self) -> Iterator[dict[str, Any]]:
        while True:
            self.given += 1
            if self.given == self.breaks_at:
                raise RuntimeError("connection lost\nand a long story")
            yield {"text": "x" * 50, "id": f"<urn:{self.given}>", "score": 3.5}


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    fake = Library()
    monkeypatch.setitem(sys.modules, "datasets", fake)
    return fake


def encode(text: str) -> list[int]:
    return list(text.encode())


def test_a_stream_stops_when_there_are_tokens_enough(library: Library) -> None:
    documents = load_documents("hf:owner/name:sample-10BT:train", encode, max_tokens=120)
    assert sorted(map(len, documents.training + documents.held_out)) == [20, 50, 50]
    assert library.given == 3
    assert library.asked == [("owner/name", "sample-10BT", "train", True)]
    assert documents.source == "hf:owner/name:sample-10BT:train"


def test_so_many_documents_and_no_row_more(library: Library) -> None:
    found = read_documents(Path("hf:owner/name"), limit=4)
    assert [document.id for document in found] == [f"<urn:{n}>" for n in (1, 2, 3, 4)]
    assert library.given == 4 and found[3].source == "hf:owner/name, row 4"
    with pytest.raises(UsageError, match="say how many documents to read"):
        read_documents("hf:owner/name")


def test_fields_are_named_with_their_row(library: Library) -> None:
    with pytest.raises(DataError, match='hf:owner/name, row 1: field "score" is a number, not a string'):
        read_documents("hf:owner/name", field="score", limit=1)


def test_a_connection_that_breaks(library: Library) -> None:
    library.breaks_at = 3
    with pytest.raises(DataError, match="hf:owner/name cannot be read after row 2: connection lost$"):
        read_documents("hf:owner/name", limit=4)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"needs datasets: pip install 'offramp\[train\]'"):
        read_documents("hf:owner/name", limit=1)


@pytest.mark.parametrize(
    ("text", "remote"),
    [
        ("hf:a/b", Remote("a/b", None, "train")),
        ("hf:a/b:c", Remote("a/b", "c", "train")),
        ("hf:a/b::test", Remote("a/b", None, "test")),
        ("hf:a/b-1.0:sample-10BT:train", Remote("a/b-1.0", "sample-10BT", "train")),
    ],
)
def test_names(text: str, remote: Remote) -> None:
    assert is_remote(text) and is_remote(Path(text)) and Remote.parse(text) == remote


@pytest.mark.parametrize(
    "text",
    [
        "hf:",
        "hf:a",
        "hf:a/b/c",
        "hf:../b",
        "hf:a/b:c:d:e",
        "hf:a/b::train[:5]",
        "hf://a/b",
        "hf:json:a/b",
        "hf:a/b:",
    ],
)
def test_no_names(text: str) -> None:
    with pytest.raises(UsageError, match="names no data set of the hub: expected hf:OWNER/NAME"):
        Remote.parse(text)


def test_a_file_may_be_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hf:file").write_text("text")
    assert read_documents(tmp_path / "hf:file")[0].text == "text"


def test_the_library_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder here stands in for the hub, which takes no network."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "owner" / "name"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text("".join(json.dumps({"text": f"text {n}"}) + "\n" for n in range(9)))
    monkeypatch.chdir(tmp_path)
    found = read_documents("hf:owner/name::test", limit=5)
    assert [(document.id, document.text) for document in found] == [
        (f"hf:owner/name::test:{n + 1}", f"text {n}") for n in range(5)
    ]
    with pytest.raises(DataError, match="after row 0: Bad split"):
        read_documents("hf:owner/name::validation", limit=5)
