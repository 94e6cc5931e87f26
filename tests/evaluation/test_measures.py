"""Each measure is its own sum, and evaluations say what their replies did."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
from random_models import AFTER, Tiny, tiny

from offramp.errors import DataError, UsageError
from offramp.evaluation.bootstrap import interval
from offramp.evaluation.cost import Cost
from offramp.evaluation.evaluate import Evaluation, Item, Judged, evaluate, judge, task_items
from offramp.evaluation.measures import (
    KINDS,
    MEASURES,
    TokenRecord,
    depth_histogram,
    loopers,
    measures_of,
    quality,
    sample,
    scores,
    summary,
    token_records,
)
from offramp.evaluation.replies import Prompted, Reply, replies
from offramp.evaluation.setting import FULL, Setting
from offramp.evaluation.tasks.base import GenerationTask

BLOCKS = 8
SKIP = Setting("skip", "skip", thresholds=(0.4,))
ITEMS = [
    Item(Prompted(f"p{i}", tuple(range(1 + i, 5 + 2 * i)), 14, ends=i > 2), lambda _: {"right": 1.0})
    for i in range(5)
]
MEASURE = {measure.name: measure for measure in MEASURES}


@pytest.fixture(scope="module")
def model() -> Tiny:
    return tiny("llama")


@pytest.fixture(scope="module")
def full(model: Tiny) -> list[Reply]:
    return replies(model.plain(slots=4), FULL, [item.prompt for item in ITEMS])


@pytest.fixture(scope="module")
def skipping(model: Tiny, full: list[Reply]) -> Evaluation:
    return evaluate(model.engine(slots=4), SKIP, ITEMS, full)


def value(evaluation: Evaluation, name: str) -> float:
    return sample([evaluation], MEASURE[name]).value


def test_full_depth_is_the_measure_of_everything(model: Tiny, full: list[Reply]) -> None:
    found = judge(model.plain(), FULL, ITEMS, full, full)
    for name in ("agreement", "consistency", "identical", "weight_reads", "bytes", "flops", "length_ratio"):
        assert value(found, name) == 1, name
    assert value(found, "reduction_corrected") == 1
    assert (value(found, "blocks_skipped"), value(found, "depth")) == (0, BLOCKS)
    assert "accepted" not in summary([found])["compute"], "nothing was drafted"


def test_skipping_saves_and_differs(skipping: Evaluation) -> None:
    assert 0 < value(skipping, "agreement") < 1
    assert 0 < value(skipping, "blocks_skipped") == pytest.approx(1 - value(skipping, "weight_reads"))
    assert value(skipping, "flops") < 1 < value(skipping, "reduction_corrected")
    assert value(skipping, "reduction_corrected") == value(skipping, "reduction_published")


def test_verify_agrees_and_pays(model: Tiny, full: list[Reply]) -> None:
    found = evaluate(model.engine(slots=4), Setting("verify", thresholds=(0.4,)), ITEMS, full)
    assert value(found, "identical") == value(found, "agreement") == 1
    assert value(found, "flops") > 1, "rejected drafts and gates are counted"
    assert 0 < value(found, "accepted") < 1
    assert "reduction_published" not in summary([found])["compute"], "the paper has no such propagation"


def test_gates_and_heads_are_counted(model: Tiny, full: list[Reply]) -> None:
    """Gates that nobody asks cost nothing more than the blocks do; bytes and FLOPs know them, blocks do not."""
    found = evaluate(model.engine(slots=4), FULL, ITEMS, full)
    assert value(found, "blocks_skipped") == 0
    assert value(found, "flops") > 1 and value(found, "bytes") > 1


def test_another_model_is_agreed_with_where_it_is_named(model: Tiny, full: list[Reply]) -> None:
    other = tiny("llama", seed=1)
    found = evaluate(other.plain(slots=4), FULL, ITEMS, full, model=model.model)
    own = evaluate(other.plain(slots=4), FULL, ITEMS, full)
    assert value(found, "agreement") < value(own, "agreement") == 1


def test_json_and_back(skipping: Evaluation) -> None:
    assert Evaluation.from_json(json.loads(json.dumps(skipping.to_json()))) == skipping


@pytest.mark.parametrize("change", [{"items": 3}, {"items": [{}]}, {"items": [None]}, {"colour": 1}], ids=str)
def test_anything_else_is_no_evaluation(skipping: Evaluation, change: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="not a"):
        Evaluation.from_json(json.loads(json.dumps(skipping.to_json())) | change)


def test_replies_to_other_prompts_are_refused(model: Tiny, full: list[Reply]) -> None:
    for found, answers in ((full[:-1], full), (full, full[::-1])):
        with pytest.raises(UsageError, match="not to these 5 items"):
            judge(model.plain(), FULL, ITEMS, found, answers)


@pytest.mark.parametrize("work", [{"exits.9.gate": {"run": (1, 1)}}, {"blocks.0": {"fly": (1, 1)}}], ids=str)
def test_replies_of_another_model_are_refused(model: Tiny, full: list[Reply], work: dict[str, Any]) -> None:
    [(part, verbs)] = work.items()
    found = [*full[:-1], replace(full[-1], work=work)]
    with pytest.raises(DataError, match=f"replies count {next(iter(verbs))} of {part}"):
        judge(model.plain(), FULL, ITEMS, found, full)


def item(
    name: str, tokens: int, agreed: int, score: float = 0.0, looping: bool = False, **more: Any
) -> Judged:
    """A reply whose tokens all left after two of the blocks, but for the first."""
    depths = (BLOCKS, *[2] * (tokens - 1))
    reply = Reply(
        name, tuple(range(tokens)), ("x",) * tokens, depths, (None, *[0.5] * (tokens - 1)), "eos", **more
    )
    flags = (True,) * agreed + (False,) * (tokens - agreed)
    cost = Cost(1, 1, 1, 1)
    return Judged(reply, flags, {"right": score}, 1.0, False, looping, (8.0, 4.0), None, cost, cost)


def test_tokens_weigh_the_same_whatever_reply_they_are_in() -> None:
    found = Evaluation("x", BLOCKS, 0, (item("a", 2, 2), item("b", 8, 2, block_tokens=14)))
    assert value(found, "agreement") == 0.4
    assert value(found, "depth") == (2 * 8 + 8 * 2) / 10
    assert value(found, "blocks_skipped") == 1 - 14 / 64
    assert depth_histogram(found) == {2: 8}


def test_looping_texts_can_be_left_out_of_every_mean() -> None:
    found = Evaluation("x", BLOCKS, 0, (item("a", 4, 4, 1.0), item("b", 4, 0, 0.0, looping=True)))
    other = replace(found, items=(item("a", 4, 4, looping=True), item("b", 4, 4)))
    assert loopers(found) == {"b"} and loopers(found, other) == {"a", "b"}
    for without, right, agreement, loops in ((set(), 0.5, 0.5, 0.5), ({"b"}, 1, 1, 0)):
        table = summary([found], without)
        assert table["quality"]["right"].value == right
        assert table["agreement"]["agreement"].value == agreement
        assert table["degeneration"]["looping"].value == loops
    assert not any(summary([found], loopers(found, other)).values()), "nothing is left to say"


def test_weights_weigh_scores_alone() -> None:
    light, heavy = item("a", 4, 4, 1.0), replace(item("b", 4, 0, 0.0), weight=3.0)
    found = Evaluation("x", BLOCKS, 0, (light, heavy))
    assert scores(found) == {"right": 0.25} and value(found, "agreement") == 0.5
    assert sample([found], quality("other")).whole_SI.sum() == 0


def test_training_seeds_are_rows() -> None:
    seeds = [Evaluation("x", BLOCKS, 0, (item("a", 4, n), item("b", 4, n))) for n in (1, 2, 3)]
    table = sample(seeds, MEASURE["agreement"])
    assert table.part_SI.tolist() == [[1, 1], [2, 2], [3, 3]] and table.value == 0.5
    assert summary(seeds)["agreement"]["agreement"] == interval(table)
    with pytest.raises(UsageError, match="the same items"):
        sample([seeds[0], replace(seeds[1], items=seeds[1].items[::-1])], MEASURE["agreement"])
    with pytest.raises(UsageError, match="the same items"):
        sample([], MEASURE["agreement"])


def test_names_and_kinds_are_apart(skipping: Evaluation) -> None:
    every = measures_of(skipping)
    assert len({measure.name for measure in every}) == len(every)
    assert {measure.kind for measure in every} == set(KINDS) == set(summary([skipping]))
    assert every[0] == replace(every[0], name="right", kind="quality")


def test_tokens_one_by_one(skipping: Evaluation) -> None:
    one = skipping.items[1]
    records = token_records(one)
    assert [record.depth for record in records] == list(one.reply.depths)
    assert [record.agreed for record in records] == list(one.agreed)
    assert {record.depth for record in records} <= {*AFTER, BLOCKS}
    assert token_records(item("a", 1, 0)) == [TokenRecord("x", BLOCKS, None, False)]


def test_unfinished_only_where_an_end_is_expected(skipping: Evaluation) -> None:
    cut = [one.reply.finish == "max_tokens" for one in skipping.items]
    assert any(cut[3:]) and any(cut[:3])
    assert [one.unfinished for one in skipping.items] == [False] * 3 + cut[3:]


class Sums(GenerationTask):
    """A task in memory."""

    headline = "right"
    max_tokens, stop = 5, (";",)

    @classmethod
    def load(cls, source: str | Path | None = None, **options: Any) -> Self:
        return cls()

    def __len__(self) -> int:
        return 2

    def prompt(self, i: int) -> str:
        return f"{i}+{i}="

    def score(self, i: int, answer: str) -> dict[str, float]:
        return {"right": float(answer == str(2 * i))}

    def weight(self, i: int) -> float:
        return 1.0 + i


def test_a_task_s_questions_as_items() -> None:
    first, second = task_items(Sums(), lambda text: [ord(letter) for letter in text])
    assert first.prompt == Prompted("0", (48, 43, 48, 61), 5, (";",))
    assert second.prompt.tokens == (49, 43, 49, 61) and (first.weight, second.weight) == (1.0, 2.0)
    assert [first.score("0"), first.score("2"), second.score("2")] == [
        {"right": 1.0},
        {"right": 0.0},
        {"right": 1.0},
    ]
