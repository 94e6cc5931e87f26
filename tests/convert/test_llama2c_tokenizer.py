"""A converted tokenizer.bin gives the ids and the text that run.c gives."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offramp.convert import llama2c_tokenizer
from offramp.errors import CheckpointError
from offramp.text import Text
from tests.convert import runc

TOKENS = runc.vocabulary()
SHUFFLED = runc.vocabulary(runc.WORDS[::-1])
"""The same words with other scores: other tokens win."""


def text_of(folder: Path, tokens: list[tuple[bytes, float]]) -> Text:
    (folder / "tokenizer.bin").write_bytes(runc.tokenizer_file(tokens))
    for name, content in llama2c_tokenizer.files(folder / "tokenizer.bin", len(tokens)).items():
        (folder / name).write_text(content, encoding="utf-8")
    return Text.load(folder)


@pytest.fixture(scope="module", params=[TOKENS, SHUFFLED], ids=["words", "other scores"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[tuple[bytes, float]], Text]:
    return request.param, text_of(tmp_path_factory.mktemp("tokenizer"), request.param)


@given(text=st.one_of(st.text("abc é\nx▁", max_size=24), st.text(max_size=8)))
def test_it_encodes_and_decodes_as_run_c(pair: tuple[list[tuple[bytes, float]], Text], text: str) -> None:
    tokens, ours = pair
    ids = runc.encode(tokens, text)
    assert ours.encode(text) == ids
    assert ours.decode(ids) == runc.decode(tokens, ids) == text


def test_what_is_in_a_text_comes_out_again(pair: tuple[list[tuple[bytes, float]], Text]) -> None:
    tokens, ours = pair
    assert ours.encode("") == [1]
    assert ours.encode(" a") == runc.encode(tokens, " a") and ours.decode(ours.encode(" a")) == " a"
    assert ours.bos_id == 1 and ours.eos_id == 2


def test_transformers_reads_it(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    ours = text_of(tmp_path, TOKENS)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("abc ab", "  aaa é\n", "x▁y"):
        assert theirs(text)["input_ids"] == ours.encode(text)
        assert theirs.decode(ours.encode(text), skip_special_tokens=True) == text


def swapped() -> list[tuple[bytes, float]]:
    return [*TOKENS[:3], TOKENS[4], TOKENS[3], *TOKENS[5:]]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "0 tokens"),
        (runc.tokenizer_file(TOKENS)[:-1], "see its byte"),
        (runc.tokenizer_file(TOKENS) + b"\0", "see its byte"),
        (runc.tokenizer_file(TOKENS[:-1]), "no pair"),
        (runc.tokenizer_file([*TOKENS[:-1], (b"\xff", 0.0)]), "not UTF-8"),
        (runc.tokenizer_file([*TOKENS[:-1], (b"a", 0.0)]), "there twice"),
        (runc.tokenizer_file([*TOKENS[:-1], (b"z", float("nan"))]), "see its byte"),
        (runc.tokenizer_file([*TOKENS[:-1], (b"a" * 257, 0.0)]), "257 bytes, more than 256"),
        (runc.tokenizer_file(swapped()), "0x00"),
        (struct.pack("<ifi", 1, 0.0, -5), "see its byte 4"),
        (struct.pack("<ifi", 1, 0.0, 1 << 30), "see its byte 4"),
    ],
)
def test_damaged_tokenizers(raw: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.bin").write_bytes(raw)
    with pytest.raises(CheckpointError, match=said):
        llama2c_tokenizer.files(tmp_path / "tokenizer.bin", len(TOKENS))


def test_a_missing_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no regular file"):
        llama2c_tokenizer.files(tmp_path / "tokenizer.bin", len(TOKENS))
