"""`--data my.jsonl --field text`: the option group that verbs share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cyclopts import App

from offramp.cli.data_options import Data
from offramp.errors import DataError


def parsed(*words: str) -> Data:
    """What a verb is given."""
    app = App(result_action="return_value")

    @app.default
    def verb(model: str, /, *, data: Data) -> Data:
        return data

    found = app(["model", *words], exit_on_error=False)
    assert isinstance(found, Data)
    return found


def encode(text: str) -> list[int]:
    return list(text.encode())


def test_a_line_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "my.jsonl"
    path.write_text("".join(json.dumps({"body": letter * 70, "key": letter}) + "\n" for letter in "abc"))
    data = parsed("--data", str(path), "--field", "body", "--id-field", "key")
    assert [document.id for document in data.read()] == ["a", "b", "c"]
    assert len(data.read(at_most=2)) == 2
    assert sum(map(len, data.load(encode).training)) == 140
    few = parsed("--data", str(path), "--field", "body", "--max-documents", "1")
    assert len(few.read(at_most=2)) == 1
    assert few.load(encode).training == [encode("a" * 63)]
    with pytest.raises(DataError, match='my.jsonl, line 1: no field "text"; its fields are .body., .key.'):
        parsed("--data", str(path)).read()


def test_names_of_the_hub_stay_as_they_are() -> None:
    assert parsed("--data", "hf:a/b:c:d").data == "hf:a/b:c:d"


def test_defaults() -> None:
    assert parsed("--data", "f") == Data("f", "text", "id", None)
