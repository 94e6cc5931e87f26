"""Any text becomes documents, and what cannot be read is named with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from offramp.data.documents import Documents, load_documents
from offramp.errors import DataError, UsageError
from tests.training.tiny import write_corpus


def encode(text: str) -> list[int]:
    return list(text.encode())


def test_folder_of_texts_and_jsonl(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("a" * 100)
    (tmp_path / ".git").write_text("hidden")
    lines = [json.dumps({"text": letter * 50}) for letter in "bc"]
    (tmp_path / "b.jsonl").write_text("\n".join(lines) + "\n\n")
    documents = load_documents(tmp_path, encode, held_out=0.3)
    assert (len(documents.training), len(documents.held_out)) == (2, 1)
    found = sorted(chr(ids[0]) * len(ids) for ids in documents.training + documents.held_out)
    assert found == ["a" * 100, "b" * 50, "c" * 50]


def test_only_a_line_feed_ends_a_line_of_jsonl(tmp_path: Path) -> None:
    """json lets these stand in a string as they are, and Python's splitlines would cut there."""
    text = "".join(["a\u2028b\u2029c\x85d\x7f"] * 20)
    written = json.dumps({"text": text}, ensure_ascii=False)
    (tmp_path / "a.jsonl").write_bytes(f"{written}\r\n{written}\r\n".encode())
    documents = load_documents(tmp_path, encode)
    assert documents.training == documents.held_out == [encode(text)]


def test_one_text_gives_its_end(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 180 + "y" * 20)
    documents = load_documents(tmp_path / "a.txt", encode)
    assert documents.training == [encode("x" * 180)] and documents.held_out == [encode("y" * 20)]


def test_size_is_limited(tmp_path: Path) -> None:
    for name in range(20):
        (tmp_path / f"{name}.txt").write_text("x" * 50)
    documents = load_documents(tmp_path, encode, max_tokens=120)
    assert sorted(map(len, documents.training + documents.held_out)) == [20, 50, 50]


def test_corpus_documents_begin_with_the_separator(tmp_path: Path) -> None:
    documents = load_documents(write_corpus(tmp_path / "corpus"), encode, max_tokens=1000)
    every = documents.training + documents.held_out
    assert all(ids[0] == 0 and 0 not in ids[1:] for ids in every)
    assert 900 < sum(map(len, every)) <= 1000
    assert {13, 101} <= set(map(len, every))  # both kinds


def test_same_seed_same_split(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    assert load_documents(corpus, encode, seed=1) == load_documents(corpus, encode, seed=1)
    assert load_documents(corpus, encode, seed=1) != load_documents(corpus, encode, seed=2)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"good\nbad \xff\n", "a.txt, line 2: byte 0xff is not UTF-8"),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "a.jsonl, line 2: not json"),
        ("a.jsonl", b'\n["text"]\n', "a.jsonl, line 2: a list, not an object"),
        ("a.jsonl", b'{"txt": "x"}\n', 'line 1: no field "text"; its fields are .txt.. Did you mean .txt.'),
        ("a.jsonl", b'{"text": 3}\n', 'line 1: field "text" is a number, not a string'),
        ("a.jsonl", b"\n" + b"[" * 200_000, "a.jsonl, line 2: not json"),
        (
            "a.jsonl",
            b'\n{"text": "a\\ud800"}\n',
            r"line 2: field \"text\" is not valid Unicode: character 2 is U\+D800",
        ),
        ("a.txt", b"", "a.txt is empty: it holds 0 tokens"),
        ("a.txt", b"short", "holds 5 tokens of text; training needs at least 64"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(DataError, match=words):
            load_documents(path, encode)


def test_other_documents_have_another_sum() -> None:
    whole = Documents([[1, 2], [3]], [[4]], "a")
    assert whole.sha256() == Documents([[1, 2], [3]], [[4]], "b").sha256()
    others = [([[1], [2, 3]], [[4]]), ([[1, 2], [3], [4]], []), ([[3], [1, 2]], [[4]])]
    assert all(Documents(*parts, "a").sha256() != whole.sha256() for parts in others)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no files"):
        load_documents(tmp_path, encode)
    with pytest.raises(DataError, match="does not exist"):
        load_documents(tmp_path / "gone", encode)


def test_the_text_may_be_in_any_field(tmp_path: Path) -> None:
    lines = [json.dumps({"body": letter * 50, "id": letter}) for letter in "abc"]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    documents = load_documents(tmp_path / "a.jsonl", encode, field="body", max_documents=2)
    assert sorted(documents.training + documents.held_out) == [encode("a" * 50), encode("b" * 50)]


def test_reading_stops_when_there_is_enough(tmp_path: Path) -> None:
    """What is wrong behind it is not met: a data set of the hub may be endless."""
    good = json.dumps({"text": "x" * 50})
    (tmp_path / "a.jsonl").write_text(f"{good}\n{good}\nnot json\n")
    documents = load_documents(tmp_path / "a.jsonl", encode, max_tokens=80)
    assert sum(map(len, documents.training + documents.held_out)) == 80
    with pytest.raises(DataError, match="line 3: not json"):
        load_documents(tmp_path / "a.jsonl", encode, max_tokens=120)


def test_copies_with_one_id_are_refused_for_training_too(tmp_path: Path) -> None:
    line = json.dumps({"id": 7, "text": "x" * 50})
    (tmp_path / "a.jsonl").write_text(f"{line}\n{line}\n")
    with pytest.raises(DataError, match=r"line 2: field \"id\" is '7', which .*a.jsonl, line 1 has too"):
        load_documents(tmp_path, encode)
    assert len(load_documents(tmp_path, encode, id_field="").training) == 1


def test_no_documents_are_no_data(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the limit is 0 documents"):
        load_documents(write_corpus(tmp_path / "corpus"), encode, max_documents=0)
    assert len(load_documents(tmp_path / "corpus", encode, max_documents=3).training) == 2
