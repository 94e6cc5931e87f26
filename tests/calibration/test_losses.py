"""One document's loss, and the pieces around it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offramp.calibration.drafted import share_interval
from offramp.calibration.forced import leaving
from offramp.calibration.items import answers_of, asked, continued, digest
from offramp.calibration.losses import METRICS, Case
from offramp.data.document import Document
from offramp.engine.load import Checkpoint
from offramp.engine.request import Request
from offramp.errors import DataError, UsageError
from offramp.evaluation.replies import Reply
from offramp.exits.certificate import METRICS as NAMES


def case(checkpoint: Checkpoint, ours: str, full: str, answer: str = "the red hat") -> Case:
    item = asked(Document("1", "Q", "here"), answer, lambda text: [1, 2], 8)
    replies = (Reply("1", (3,), (text,), (4,), (None,), "eos") for text in (ours, full))
    return Case(checkpoint.model, item, Request(item.prompt), *replies)


@pytest.mark.parametrize(
    ("metric", "ours", "full", "loss"),
    [
        ("consistency", "red hat", "red hat", 0.0),
        ("consistency", "green", "red hat", 1.0),
        ("consistency", "red coat", "red hat", 0.5),
        ("exact_match", "a hat", "Red hat.", 1.0),
        ("exact_match", "Red hat.", "a hat", 0.0),  # a gain is no loss, and pays for none
        ("exact_match", "red hat", "the red hat", 0.0),
        ("f1", "hat", "red hat", 1 / 3),
        ("f1", "red hat", "hat", 0.0),
        ("f1", "", "red hat", 1.0),
    ],
)
def test_losses_against_the_full_models_reply(
    checkpoint: Checkpoint, metric: str, ours: str, full: str, loss: float
) -> None:
    assert METRICS[metric].loss(case(checkpoint, ours, full)) == pytest.approx(loss)


def test_a_reply_without_a_token_agrees_in_nothing(checkpoint: Checkpoint) -> None:
    empty = case(checkpoint, "", "")
    nan = Case(empty.model, empty.item, empty.request, Reply("1", (), (), (), (), "nan"), None)
    assert METRICS["agreement"].loss(nan) == 1.0


def test_certificates_know_the_metrics_there_are() -> None:
    assert set(METRICS) == set(NAMES)
    assert [name for name, metric in METRICS.items() if metric.binary] == ["exact_match"]


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def test_a_text_is_asked_by_its_first_half() -> None:
    assert continued(Document("1", "abcdef", "here"), letters, 9).prompt == tuple(letters("abc"))
    item = continued(Document("1", "abcdef", "here"), letters, 2)
    assert item.prompt == tuple(letters("ab")) and item.text == tuple(letters("abcdef"))
    with pytest.raises(DataError, match="f.txt: one token"):
        continued(Document("1", "a", "f.txt"), letters, 2)


def test_prompts_that_are_too_long_are_named() -> None:
    with pytest.raises(DataError, match=r"f\.jsonl, line 3.*--prompt-tokens"):
        asked(Document("1", "abc", "f.jsonl, line 3"), "d", letters, 2)


def test_answers_go_by_id() -> None:
    prompts = [Document("a", "1+1", "x"), Document("b", "2+2", "x")]
    assert answers_of(prompts, [Document("b", "4", "x"), Document("a", "2", "x")]) == {"a": "2", "b": "4"}
    with pytest.raises(UsageError, match="no answer"):
        answers_of(prompts, [Document("a", "2", "x")])


def test_the_digest_knows_every_item_and_its_part() -> None:
    one, other = (continued(Document("1", text, "x"), letters, 4) for text in ("abcd", "abce"))
    sums = [digest({"tune": [one], "test": [other]}), digest({"tune": [other], "test": [one]})]
    assert len({*sums, digest({"tune": [one, other], "test": []}), digest({"tune": [one]})}) == 4


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40), st.integers(1, 4))
def test_no_more_than_run_max_leave_in_a_row(values: list[tuple[float, float]], run_max: int) -> None:
    left = leaving(np.array(values).T, (0.5, 0.4), run_max)
    run = 0
    for exit, (first, second) in zip(left, values, strict=True):
        run = run + 1 if exit is not None else 0
        assert run <= run_max
        wants = 0 if first > 0.5 else 1 if second > 0.4 else None
        assert exit in (wants, None)
    assert left[0] == (0 if values[0][0] > 0.5 else 1 if values[0][1] > 0.4 else None)


def test_the_share_of_drafts_has_an_interval_that_holds() -> None:
    """A 99 % interval of documents that differ misses the truth about once in a hundred, not every tenth time."""
    rng, missed = np.random.default_rng(0), 0
    for _ in range(1000):
        shares = rng.beta(8, 2, 10)
        counts = [(100, int(rng.binomial(100, share))) for share in shares]
        low, high = share_interval(counts) or (0.0, 1.0)
        missed += not low <= 0.8 <= high
    assert missed <= 35
    assert share_interval([(9, 9)] * 10) is None and share_interval([(900, 9)]) is None
