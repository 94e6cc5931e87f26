"""Held-out numbers against slow, separate counts."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from offramp.models.base import Model
from offramp.training.greedy import greedy
from offramp.training.heldout import answers, code, heldout
from tests.training.tiny import counting_documents, tiny_model

LETTERS = "^\n" + "abcdefghijklmnopqrstuvwxyz" + "0123"  # id 0 begins a document


def encode(text: str) -> list[int]:
    return [LETTERS.index(letter) for letter in text]


def decode(ids: list[int]) -> str:
    return "".join(LETTERS[token] for token in ids)


def nats(model: Model, ids: list[int]) -> float:
    logits_TV = model(torch.tensor([ids[:-1]]))[0]
    return float(F.cross_entropy(logits_TV, torch.tensor(ids[1:]), reduction="sum"))


@torch.no_grad()
def test_bits_per_byte() -> None:
    model, texts = tiny_model(), ["abcdef" * 30, "hello", ""]
    found = code(model, texts, encode)
    total = nats(model, [0, *encode("hello")])
    ids = [0, *encode(texts[0])]
    for start in range(0, 180, 64):  # windows of the whole context of 64; every token is a target once
        total += nats(model, ids[start : start + 65])
    assert found["tokens"] == 185 and found["bytes"] == 185
    assert found["bits_per_byte"]["full"] == pytest.approx(total / math.log(2) / 185, rel=1e-5)
    places = {"2", "4", "5", "6", "7"}
    assert set(found["agreement"]) == places | {f"{place}+last_block" for place in places}
    assert found["agreement"]["7+last_block"] >= found["agreement"]["2"]


@torch.no_grad()
def test_greedy_is_one_row_at_a_time() -> None:
    model, prompts = (
        tiny_model(),
        [ids[:length] for ids, length in zip(counting_documents(5, 9), range(2, 7), strict=True)],
    )
    for prompt, answer in zip(prompts, greedy(model, prompts, 4, rows=3), strict=True):
        ids = list(prompt)
        for _ in range(4):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        assert answer == ids[len(prompt) :]


def test_greedy_ends_with_the_stop_token() -> None:
    model, prompts = tiny_model(), [[0, 3], [0, 7, 8, 9], [0, 5, 5]]
    whole = greedy(model, prompts, 6)
    for stop in {whole[0][2], whole[1][4]}:
        expected = [ids[: ids.index(stop) + 1] if stop in ids else ids for ids in whole]
        assert greedy(model, prompts, 6, stop=stop) == expected
        assert greedy(model, prompts[:1], 6, stop=stop) == expected[:1]


def test_answers_are_judged_by_their_first_line() -> None:
    model = tiny_model()
    reply = decode(greedy(model, [[0, *encode("ab")]], 12)[0]).strip().splitlines()[0]
    asked = [
        {"prompt": "ab", "answer": reply, "kind": "right"},
        {"prompt": "ab", "answer": reply + "z", "kind": "wrong"},
    ]
    found = answers(model, asked, encode, decode)
    assert found["questions"] == 2 and found["exact_match"] == 0.5
    assert found["by_kind"] == {"right": 1.0, "wrong": 0.0}
    assert all(0.0 <= share <= 1.0 for share in found["agreement"].values())


def test_whole_corpus(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(
        "\n".join(json.dumps({"id": i, "text": "abc" * 9}) for i in range(9))
    )
    question = json.dumps({"prompt": "ab", "answer": "c", "kind": "next"})
    for name in ("facts", "stories"):
        (tmp_path / f"{name}_test.jsonl").write_text("\n".join([question] * 4))
    found = heldout(tiny_model(), tmp_path, encode, decode, documents=4, questions=2)
    assert found["code"]["documents"] == 4 and found["stories"]["questions"] == 2
    json.dumps(found, allow_nan=False)
