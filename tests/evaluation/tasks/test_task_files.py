"""Every task reads what its data set's authors publish, and says what is wrong with anything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from task_records import RECORDS, STORY, TRIVIA_TSV, TRUTH, TRUTH_CSV, write

from offramp.errors import DataError, UnknownName, UsageError
from offramp.evaluation.tasks.base import (
    FOLDER,
    ChoiceTask,
    GenerationTask,
    RollingTask,
    Scored,
    Task,
    task_named,
)
from offramp.registry import names

NAMES = names(FOLDER)
ZERO = {"truthfulqa_mc1": 1, "truthfulqa_mc2": 1, "truthfulqa_gen": 1}
"""Their few_shot is the preset prompt, which takes no question away; the others are loaded without examples."""


def said(task: Task, i: int = 0) -> tuple[Any, ...]:
    """Everything that item i says."""
    match task:
        case ChoiceTask():
            return task.prompt(i), task.choices(i), task.guessing(i)
        case RollingTask():
            return task.prompt(i), task.text(i)
    return (task.prompt(i),)


def test_every_task_has_a_fixture() -> None:
    assert set(RECORDS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_form_says_the_same(name: str, tmp_path: Path) -> None:
    tasks = [task_named(name).load(write(tmp_path, one), few_shot=ZERO.get(name, 0)) for one in RECORDS[name]]
    assert len({repr(said(task)) for task in tasks}) == 1
    assert all(len(task) == 1 and task.weight(0) > 0 for task in tasks)


@pytest.mark.parametrize("name", NAMES)
def test_the_headline_is_a_score(name: str, tmp_path: Path) -> None:
    task = task_named(name).load(write(tmp_path, RECORDS[name][0]), few_shot=ZERO.get(name, 0))
    match task:
        case GenerationTask():
            assert task.max_tokens > 0 and all(task.stop)
            scores = task.score(0, " nothing of that kind")
        case ChoiceTask():
            scores = task.score(0, [Scored((-1.0,), True)] * len(task.choices(0)))
            assert all(choice.startswith(" ") for choice in task.choices(0))
        case RollingTask():
            scores = task.score(0, Scored((-1.0, -2.0), False))
    assert task.headline in scores and all(isinstance(value, float) for value in scores.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_field_is_named_with_file_and_line(name: str, tmp_path: Path) -> None:
    source = tmp_path / "source.jsonl"
    source.write_text("\n" + json.dumps({"strange": 1}) + "\n")
    with pytest.raises(
        DataError, match=r'source.jsonl, line 2: no "\w+(?: Answers)?"; its keys are \[.strange.\]'
    ):
        task_named(name).load(source)


@pytest.mark.parametrize("name", NAMES)
def test_no_field_may_be_of_another_kind(name: str, tmp_path: Path) -> None:
    """Whatever field is changed: an error that names it, or none where the task does not read it."""
    for record in RECORDS[name]:
        for field in record:
            for strange in (None, 7, "", [], {}, [None], {"choices": None}, ["a"]):
                source = write(tmp_path, record | {field: strange})
                try:
                    task_named(name).load(source, few_shot=ZERO.get(name, 0))
                except DataError as error:
                    assert "line 1" in str(error) and '"' in str(error)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "is empty"),
        ("{}\n{", "line 1: no"),
        ("[1]\n", "a list, not an object"),
        ("nonsense\n", "line 1: not json"),
    ],
)
def test_a_damaged_file_is_refused(content: str, match: str, tmp_path: Path) -> None:
    source = tmp_path / "source.jsonl"
    source.write_text(content)
    with pytest.raises(DataError, match=match):
        task_named("gsm8k").load(source)


def test_other_forms_of_files(tmp_path: Path) -> None:
    (tmp_path / "mc_task.json").write_text(json.dumps([TRUTH, TRUTH]))
    assert len(task_named("truthfulqa_mc1").load(tmp_path / "mc_task.json")) == 2
    (tmp_path / "coqa.json").write_text(json.dumps({"version": "1.0", "data": [STORY]}))
    assert len(task_named("coqa").load(tmp_path / "coqa.json")) == 1
    (tmp_path / "TruthfulQA.csv").write_text(TRUTH_CSV)
    assert (
        task_named("truthfulqa_gen").load(tmp_path / "TruthfulQA.csv").prompt(0).endswith("Q: Do cats bark?")
    )
    (tmp_path / "dev.tsv").write_text(TRIVIA_TSV * 3)
    assert len(task_named("triviaqa").load(tmp_path / "dev.tsv")) == 1, "two are examples"
    (tmp_path / "page.txt").write_text("Cats purr.")
    assert task_named("bits_per_byte").load(tmp_path / "page.txt").weight(0) == 10


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("Who barks\n", "line 1: 1 fields"),
        ("Who barks\tDog\n", 'line 1: "answers" is .* a list of texts, as Python writes it'),
        ("Who barks\t[]\n", "a list of at least one text"),
        ("Who barks\t__import__('os')\n", "a list of texts, as Python writes it"),
    ],
)
def test_a_damaged_table_is_refused(line: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "dev.tsv").write_text(line)
    with pytest.raises(DataError, match=match):
        task_named("triviaqa").load(tmp_path / "dev.tsv", few_shot=0)


def test_examples_come_first_and_are_not_asked(tmp_path: Path) -> None:
    source = tmp_path / "source.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"Q{i}:", "answer": f" A{i}"}) + "\n" for i in range(6)))
    load = task_named("stories_qa").load
    task = load(source, few_shot=2, seed=1)
    shown = task.prompt(0).split("\n\n")
    assert len(task) == 4 and len(shown) == 3
    assert all(
        example.replace("Q", "").replace("A", "").split(": ")[0] == example[1] for example in shown[:2]
    )
    asked = {task.prompt(i).split("\n\n")[-1] for i in range(4)}
    assert not asked & {f"{example.split(':')[0]}:" for example in shown[:2]}, "no example is asked"
    assert task.prompt(1).split("\n\n")[:2] == shown[:2], "all questions have the same"
    again, other = load(source, few_shot=2, seed=1), load(source, few_shot=2, seed=2)
    assert again.prompt(0) == task.prompt(0) != other.prompt(0)
    limited = load(source, few_shot=2, seed=1, limit=1)
    assert len(limited) == 1 and limited.prompt(0) == task.prompt(0)


def test_what_cannot_be_asked_for(tmp_path: Path) -> None:
    source = write(tmp_path, RECORDS["gsm8k"][0])
    gsm8k = task_named("gsm8k")
    with pytest.raises(UsageError, match="5 as examples leave nothing"):
        gsm8k.load(source)
    with pytest.raises(UsageError, match="limit is 0"):
        gsm8k.load(source, limit=0)
    with pytest.raises(UsageError, match="few_shot is -1"):
        gsm8k.load(source, few_shot=-1)
    with pytest.raises(UsageError, match="few_shot is 2; TruthfulQA has 1"):
        task_named("truthfulqa_mc1").load(write(tmp_path, TRUTH), few_shot=2)
    with pytest.raises(UsageError, match='gsm8k needs a source: a file or "hf" for openai/gsm8k'):
        gsm8k.load()
    with pytest.raises(DataError, match="no file"):
        gsm8k.load(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=r"must be a \.jsonl, .* or \.txt file"):
        gsm8k.load(Path(__file__))
    with pytest.raises(UnknownName, match="unknown task 'gsm9k'. Did you mean 'gsm8k'"):
        task_named("gsm9k")


def test_the_hubs_rows_are_asked_for_by_their_official_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def load_dataset(name: str, config: str | None, *, split: str, **_: object) -> list[Any]:
        asked.append((name, config, split))
        return [RECORDS["boolq"][1]] * 3

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(task_named("boolq").load("hf")) == 3
    assert len(task_named("boolq").load("hf:me/mine:small:train", few_shot=1)) == 2
    assert asked == [("aps/super_glue", "boolq", "validation"), ("me/mine", "small", "train")]


@pytest.mark.parametrize("name", ["stories_qa", "facts_qa"])
def test_the_twins_tasks_bring_their_questions(name: str) -> None:
    task = task_named(name).load()
    assert len(task) == 480 and not task.official
    prompts = [task.prompt(i) for i in range(len(task))]
    stories = {prompt.partition("\nQ:")[0] for prompt in prompts}
    assert len(stories) == 480 and all(prompt.endswith(":") for prompt in prompts), "no two share a story"
    assert (Path(__file__).parents[3] / "offramp/evaluation/tasks" / f"{name}.jsonl").stat().st_size < 200_000
