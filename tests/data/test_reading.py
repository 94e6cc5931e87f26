"""Anybody's data is read as it is, or refused with its file, line and field."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from offramp.data import lines, reading
from offramp.data.document import Document, fingerprint
from offramp.data.reading import read_documents
from offramp.errors import DataError, UsageError

TEXTS = ["one", "two\nlines", 'three "quoted", with a comma', "four \u2028 \N{SNOWMAN}"]


def jsonl(*items: object) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


FORMS = {
    "a.jsonl": jsonl(*({"text": text} for text in TEXTS)),
    "a.ndjson": jsonl(*({"text": text, "other": None} for text in TEXTS)),
    "a.JSONL": b"\xef\xbb\xbf" + b"\r\n".join(jsonl({"text": text}).strip() for text in TEXTS),
    "a.json": json.dumps([{"text": text} for text in TEXTS], indent=2).encode(),
    "b.json": json.dumps({"version": [1, {"data": 2}], "data": [{"text": text} for text in TEXTS]}).encode(),
    "a.csv": b'n,text\n1,one\n2,"two\nlines"\n\n3,"three ""quoted"", with a comma"\n'
    + "4,four \u2028 \N{SNOWMAN}".encode(),
    "a.tsv": b'text\tn\none\t1\n"two\nlines"\t2\n"three ""quoted"", with a comma"\t3\n'
    + "four \u2028 \N{SNOWMAN}\t4\n".encode(),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_texts(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FORMS[name])
    assert [document.text for document in read_documents(tmp_path / name)] == TEXTS


def test_places_are_lines_of_the_file(tmp_path: Path) -> None:
    """A record's line is where it begins; a row of CSV may have several, and all of a .json file may be one."""
    for name, places in [
        ("a.jsonl", ["line 1", "line 2", "line 3", "line 4"]),
        ("a.json", ["line 2, record 1", "line 5, record 2", "line 8, record 3", "line 11, record 4"]),
        ("b.json", ["line 1, record 1", "line 1, record 2", "line 1, record 3", "line 1, record 4"]),
        ("a.csv", ["line 2", "line 3", "line 6", "line 7"]),
    ]:
        path = tmp_path / name
        path.write_bytes(FORMS[name])
        assert [document.source for document in read_documents(path)] == [f"{path}, {at}" for at in places]


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": TEXTS * 200, "id": range(800)}), path)
    found = read_documents(path)
    assert [document.text for document in found] == TEXTS * 200
    assert found[300] == Document("300", TEXTS[0], f"{path}, row 301")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="a.parquet cannot be read as parquet"):
        read_documents(path)


def test_parquet_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"reading parquet needs pyarrow: pip install 'offramp\[train\]'"):
        read_documents(tmp_path / "a.parquet")


def test_ids_are_their_own_or_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.jsonl").write_bytes(jsonl({"text": "b", "id": "B"}, {"text": "c", "id": 3}))
    (tmp_path / "a.jsonl").write_bytes(b"\n" + jsonl({"text": "a", "key": "A"}))
    (tmp_path / "z.md").write_text("z")
    (tmp_path / ".hidden").write_bytes(b"\xff")
    assert [document.id for document in read_documents(tmp_path)] == ["a.jsonl:2", "B", "3", "z.md"]
    assert [document.id for document in read_documents(tmp_path / "a.jsonl", id_field="key")] == ["A"]
    unnamed = read_documents(tmp_path / "sub", id_field="")
    assert [document.id for document in unnamed] == ["b.jsonl:1", "b.jsonl:2"]


def test_ids_are_one_documents_in_a_whole_folder(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_bytes(jsonl({"text": name, "id": "x"}))
    with pytest.raises(DataError, match=r"b.jsonl, line 1: field \"id\" is 'x', which .*a.jsonl, line 1 has"):
        read_documents(tmp_path)


def test_a_limit_takes_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl(*({"text": text} for text in TEXTS)) + b"not json")
    assert [document.text for document in read_documents(path, limit=2)] == TEXTS[:2]
    monkeypatch.setattr(reading, "MOST_DOCUMENTS", 3)
    with pytest.raises(
        DataError, match="a.jsonl holds more than 3 documents: say how many documents to read"
    ):
        read_documents(path)
    assert len(read_documents(path, limit=4)) == 4
    with pytest.raises(UsageError, match="the limit is 0"):
        read_documents(path, limit=0)


def test_the_order_of_a_folder_is_that_of_its_names_or_of_a_seed(tmp_path: Path) -> None:
    names = [f"{n:02}.txt" for n in range(20)]
    for name in reversed(names):
        (tmp_path / name).write_text(name)
    orders = [
        [document.id for document in reading.stream(tmp_path, reading.Fields(), seed)]
        for seed in (None, 1, 1, 2)
    ]
    assert orders[0] == names and orders[1] == orders[2] != orders[3] and sorted(orders[1]) == names


TOO_DEEP = b'{"text": ' + b"[" * 100_000
BAD = [
    # name, content, line or "", what is said
    ("a.jsonl", b"", "", 'is empty: expected at least one record with the field "text"'),
    ("a.jsonl", b"\n \r\n\n", "", "is empty: expected at least one record"),
    ("a.json", b"", "", "is empty: expected at least one record"),
    ("a.json", b"[]", "", "is empty: expected at least one record"),
    ("a.csv", b"", "", "is empty: expected at least one record"),
    ("a.csv", b"id,text\n", "", "is empty: expected at least one record"),
    ("a.txt", b"", "", "is empty"),
    ("a.txt", b" \n\t\n", "", "is empty"),
    ("a.jsonl", jsonl({"text": "a"}, {}), "line 2", 'no field "text"; its fields are none'),
    (
        "a.jsonl",
        jsonl({"Text": "a"}),
        "line 1",
        "no field \"text\"; its fields are 'Text'. Did you mean 'Text'?",
    ),
    ("a.jsonl", jsonl({"body": "a", "n": 1}), "line 1", "no field \"text\"; its fields are 'body', 'n'."),
    ("a.jsonl", jsonl({"text": None}), "line 1", 'field "text" is null, not a string'),
    ("a.jsonl", jsonl({"text": True}), "line 1", 'field "text" is true or false, not a string'),
    (
        "a.jsonl",
        jsonl({"text": ["a"], "b": "c"}),
        "line 1",
        "field \"text\" is a list, not a string; strings are in 'b'",
    ),
    ("a.jsonl", jsonl({"text": "a"}, {"text": " \n"}), "line 2", 'field "text" is empty'),
    (
        "a.jsonl",
        b'{"text": "a\\udc80"}',
        "line 1",
        'field "text" is not valid Unicode: character 2 is U+DC80',
    ),
    (
        "a.jsonl",
        jsonl({"text": "a", "id": 1.5}),
        "line 1",
        'field "id" is a number; an id is a string or a whole',
    ),
    ("a.jsonl", jsonl({"text": "a", "id": True}), "line 1", 'field "id" is true or false; an id'),
    ("a.jsonl", jsonl({"text": "a", "id": ""}), "line 1", 'field "id" is empty; an id'),
    (
        "a.jsonl",
        jsonl({"text": "a", "id": 1}, {"text": "b"}),
        "line 2",
        "no field \"id\"; its fields are 'text'",
    ),
    (
        "a.jsonl",
        jsonl({"text": "a", "id": 1}, {"text": "b", "id": "1"}),
        "line 2",
        "field \"id\" is '1', which",
    ),
    ("a.jsonl", b'{"text": "a", "text": "b"}', "line 1", "not json (the key 'text' is there twice)"),
    ("a.jsonl", b'{"text": "a", "n": NaN}', "line 1", "not json (NaN is no JSON; write null)"),
    ("a.jsonl", b'{"text": "a"}\n{"text": "a", "n": -Infinity}', "line 2", "not json (-Infinity is no JSON"),
    (
        "a.jsonl",
        b'{"text": "a"} {"text": "b"}',
        "line 1",
        "not json (Extra data at column 15); expected one JSON obj",
    ),
    ("a.jsonl", b'{"text": "a"}\n{"text": "cut o', "line 2", "not json (Unterminated string"),
    ("a.jsonl", b'{"text": "two\nlines"}\n', "line 1", "not json"),
    ("a.jsonl", b'{"text": "a", "n": ' + b"9" * 5000 + b"}", "line 1", "not json"),
    ("a.jsonl", b"\n" + TOO_DEEP, "line 2", "not json"),
    (
        "a.jsonl",
        b'{"text": "a"}\n["text"]',
        "line 2",
        "a list, not an object; expected one JSON object a line",
    ),
    ("a.json", b'[{"text": "a"},\n3]', "line 2", "a number, not an object; expected a list of objects"),
    ("a.json", b'[{"text": "a"},\n{"txt": "b"}]', "line 2", 'no field "text"'),
    ("a.json", b'{"data":\n[{"text": "a"},\n{"text": 1}]}', "line 3", 'field "text" is a number'),
    (
        "a.json",
        b'{"text": "a"}\n{"text": "b"}',
        "line 2",
        "not json (Extra data at column 1); expected a list",
    ),
    ("a.json", b'{"text": "a"}', "", 'expected a list of objects, or an object with one under "data"'),
    ("a.json", b'"text"', "", "expected a list of objects"),
    (
        "a.csv",
        b"id,body\n1,a\n",
        "line 2",
        "no field \"text\"; its fields are 'id', 'body'.",
    ),
    ("a.csv", b"id,text\n1,a\n2\n", "line 3", "fields of the row 1, of the header 2: id, text"),
    ("a.csv", b'id,text\n1,"a\nb"\n2,b,c\n', "line 4", "fields of the row 3, of the header 2: id, text"),
    ("a.csv", b'id,text\n1,a\n2,"open\n\n', "line 3", "not a row of a table (unexpected end of data)"),
    ("a.csv", b'id,text\n1,"a" b\n', "line 2", "not a row of a table"),
    ("a.csv", b"id,text\n1, \n", "line 2", 'field "text" is empty'),
    ("a.csv", b"id,text\n1,a\n1,b\n", "line 3", "field \"id\" is '1', which"),
    ("a.csv", b"text,text\na,b\n", "line 1", "two columns are called 'text'"),
    ("a.csv", b"text,\na,b\n", "line 1", "a column has no name"),
    ("a.csv", b"text\n" + b"x" * 140_000, "line 2", "not a row of a table (field larger than field limit"),
    ("a.csv", b"id,text\n1,caf\xe9\n", "line 2", "byte 0xe9 is not UTF-8"),
    ("a.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}\n', "line 2", "byte 0xe9 is not UTF-8"),
    ("a.txt", b"a\nb\n\xe9", "line 3", "byte 0xe9 is not UTF-8"),
    ("a.txt", "text".encode("utf-16"), "", "looks like UTF-16: convert it to UTF-8"),
    ("a.txt", "text".encode("utf-32"), "", "looks like UTF-32: convert it to UTF-8"),
    ("a.jsonl", '{"text": "a"}'.encode("utf-16"), "", "looks like UTF-16"),
    ("a.csv", "id,text".encode("utf-16-le"), "line 1", "a zero byte, which no text has; if this is UTF-16"),
    ("a.txt", b"good\nzero \0", "line 2", "a zero byte"),
    ("a.jsonl.gz", b"\x1f\x8b\x08\x00", "", "looks like gzip: unpack it"),
    ("a.docx", b"PK\x03\x04", "", "looks like a zip archive"),
    ("a.pq", b"PAR1", "", "looks like parquet: name it .parquet"),
    ("a.parquet", b"no parquet", "", "cannot be read as parquet"),
]


@pytest.mark.parametrize(("name", "content", "line", "words"), BAD)
def test_what_is_wrong_is_named_with_file_line_and_field(
    tmp_path: Path, name: str, content: bytes, line: str, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for source in (path, tmp_path):
        with pytest.raises(DataError) as caught:
            read_documents(source)
        said = str(caught.value)
        assert re.match(rf"{path}, {line}(, record \d)?: " if line else str(path), said) and words in said
        assert len(said) < 600


def test_an_id_field_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl({"text": "a", "keys": "k"}))
    with pytest.raises(
        DataError, match="line 1: no field \"key\"; its fields are 'text', 'keys'. Did you mean 'keys'"
    ):
        read_documents(tmp_path, id_field="key")


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl({"text": "a"}, {"text": "b" * 40}, {"text": "c"}))
    monkeypatch.setattr(lines, "LONGEST_LINE", 30)
    with pytest.raises(DataError, match="a.jsonl, line 2: longer than 30 bytes"):
        read_documents(path)
    monkeypatch.setattr(lines, "LONGEST_LINE", 100)
    monkeypatch.setattr(lines, "MOST_LINES", 2)
    with pytest.raises(DataError, match="a.jsonl has more than 2 lines"):
        read_documents(path)
    with pytest.raises(DataError, match="a.jsonl is larger than 9 bytes"):
        lines.read_text(path, 9)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone does not exist; give a .jsonl, .json"):
        read_documents(tmp_path / "gone")
    with pytest.raises(DataError, match="holds no files"):
        read_documents(tmp_path)
    with pytest.raises(DataError, match="/dev/null cannot be read: it is not a regular file"):
        read_documents("/dev/null")
    with pytest.raises(DataError, match="the data has no name; give"):  # an empty variable is not this folder
        read_documents("")
    os.mkfifo(tmp_path / "pipe.parquet")
    with pytest.raises(DataError, match="pipe.parquet cannot be read: it is not a regular file"):
        read_documents(tmp_path / "pipe.parquet")


def test_no_link_of_a_folder_is_left_out_silently(tmp_path: Path) -> None:
    home, away = tmp_path / "home", tmp_path / "away"
    for folder in (home, away):
        folder.mkdir()
        (folder / "a.txt").write_text("a")
    (home / "b.txt").symlink_to(away / "a.txt")
    assert [one.id for one in read_documents(home)] == ["a.txt", "b.txt"]
    (home / "sub").symlink_to(away)
    with pytest.raises(DataError, match="sub links to a folder, which is not followed"):
        read_documents(home)
    (home / "sub").unlink()
    (home / "dead.txt").symlink_to(away / "gone")
    with pytest.raises(DataError, match="dead.txt cannot be read: it is not a regular file"):
        read_documents(home)


def test_an_id_is_text_whatever_bytes_a_name_has(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"a\xff.txt")).write_text("a")
    [found] = read_documents(tmp_path)
    assert found.id == "a\\udcff.txt" and found.id.encode()


def test_a_corpus_of_ids_has_no_texts(tmp_path: Path) -> None:
    (tmp_path / "qa.bin").write_bytes(b"\0\0")
    with pytest.raises(DataError, match="is a corpus of token ids, which only training reads"):
        read_documents(tmp_path)


def test_a_fingerprint_is_of_texts_alone() -> None:
    a, b, other = Document("1", "a", "f"), Document("2", "b", "f"), Document("9", "a", "g")
    assert fingerprint([a, b]) == fingerprint([b, other]) != fingerprint([a, a])


PIECES = st.sampled_from(
    [
        "{",
        "}",
        "[",
        "]",
        '"text"',
        '"id"',
        "text",
        "id",
        ":",
        ",",
        '"',
        "\\",
        "\n",
        "\r",
        "\t",
        " ",
        "1",
        "NaN",
        "\ufeff",
    ]
)
CONTENTS = st.one_of(
    st.binary(max_size=40), st.lists(PIECES, max_size=30).map(lambda parts: "".join(parts).encode())
)


@given(st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".txt", ""]), CONTENTS)
@example(".json", b'{"data": []}')
def test_whatever_is_in_a_file_it_is_read_or_refused(suffix: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(content)
        try:
            found = read_documents(path)
        except DataError as error:
            assert str(path) in str(error)
        else:
            assert found and all(document.text.strip() and document.id for document in found)


ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip)


@given(st.lists(ANY_TEXT, min_size=1, max_size=5))
def test_what_was_written_is_read(texts: list[str]) -> None:
    items = [{"n": number, "text": text} for number, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a.json").write_text(
            json.dumps(items, indent=1, ensure_ascii=False), encoding="utf-8", newline=""
        )
        (folder / "a.jsonl").write_bytes(
            b"\n".join(json.dumps(item, ensure_ascii=False).encode() for item in items)
        )
        for form, delimiter in (("csv", ","), ("tsv", "\t")):
            with (folder / f"a.{form}").open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, ["n", "text"], delimiter=delimiter)
                writer.writeheader()
                writer.writerows(items)
        for form in ("json", "jsonl", "csv", "tsv"):
            found = read_documents(folder / f"a.{form}", id_field="n")
            assert [(document.id, document.text) for document in found] == [
                (str(item["n"]), item["text"]) for item in items
            ]
