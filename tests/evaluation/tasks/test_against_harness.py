"""Prompts and scores are lm-evaluation-harness's own: its templates and functions, on made-up answers."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import lm_eval
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lm_eval.api.metrics import exact_match_hf_evaluate
from lm_eval.filters.extraction import RegexFilter, WhitespaceFilter
from lm_eval.tasks.qasper.metrics import normalize_answer
from lm_eval.utils import apply_template
from task_records import (
    ARC_HUB,
    BOOLQ_HUB,
    GENERATION,
    GSM8K,
    LAMBADA,
    STORY_HUB,
    TRIVIA_HUB,
    TRUTH_HUB,
    write,
)

from offramp.evaluation.similarity import exact_match, f1
from offramp.evaluation.tasks._choices import accuracy, accuracy_per_character
from offramp.evaluation.tasks.base import Scored, task_named

TASKS = Path(lm_eval.__file__).parent / "tasks"
FEW = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
ANSWERS = st.lists(
    st.sampled_from(
        ["No", "they", "meow", "cats", "bark", "a", "mat.", "#### 1,002", "$1002.", "-5", "\n", ","]
    ),
    max_size=10,
).map(" ".join)


class Loader(yaml.SafeLoader):
    """Reads the harness's files, functions left out."""


Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


def config(path: str) -> dict[str, Any]:
    return yaml.load((TASKS / path).read_text(), Loader)


@pytest.fixture(scope="module")
def coqa() -> ModuleType:
    """The harness's functions for CoQA. They need a module that newer releases of transformers have not: it is put
    together from the same functions as another of the harness's tasks has them."""
    squad = ModuleType("transformers.data.metrics.squad_metrics")

    def compute_f1(gold: str, prediction: str) -> float:
        left, right = normalize_answer(gold).split(), normalize_answer(prediction).split()
        if not left or not right:
            return float(left == right)
        common = sum(min(left.count(word), right.count(word)) for word in set(left))
        precision, recall = common / len(right), common / len(left)
        return 2 * precision * recall / (precision + recall) if common else 0.0

    squad.compute_f1 = compute_f1  # type: ignore[attr-defined]
    squad.compute_exact = lambda gold, prediction: int(  # type: ignore[attr-defined]
        normalize_answer(gold) == normalize_answer(prediction)
    )
    with pytest.MonkeyPatch.context() as patch:
        metrics = ModuleType("transformers.data.metrics")
        metrics.squad_metrics = squad  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "transformers.data.metrics", metrics)
        patch.setitem(sys.modules, "transformers.data.metrics.squad_metrics", squad)
        patch.delitem(sys.modules, "lm_eval.tasks.coqa.utils", raising=False)
        yield importlib.import_module("lm_eval.tasks.coqa.utils")
        sys.modules.pop("lm_eval.tasks.coqa.utils", None)


def one(name: str, record: Any, folder: Path, few_shot: int = 0) -> Any:
    """The task over one record."""
    return task_named(name).load(write(folder, record), few_shot=few_shot)


@pytest.mark.parametrize(
    ("name", "path", "record"),
    [
        ("triviaqa", "triviaqa/default.yaml", TRIVIA_HUB),
        ("boolq", "super_glue/boolq/default.yaml", BOOLQ_HUB),
        ("gsm8k", "gsm8k/gsm8k.yaml", GSM8K),
        ("arc_easy", "arc/arc_easy.yaml", ARC_HUB),
        ("lambada", "lambada/lambada_openai.yaml", LAMBADA),
        ("truthfulqa_mc1", "truthfulqa/truthfulqa_mc1.yaml", TRUTH_HUB),
        ("truthfulqa_gen", "truthfulqa/truthfulqa_gen.yaml", GENERATION),
    ],
)
def test_the_prompt_is_the_harnesss(name: str, path: str, record: Any, tmp_path: Path) -> None:
    task = one(name, record, tmp_path, few_shot=int("truthful" in name))
    assert task.prompt(0) == apply_template(config(path)["doc_to_text"], record)


def test_stop_strings_are_the_harnesss() -> None:
    for name, path in (
        ("triviaqa", "triviaqa/default.yaml"),
        ("coqa", "coqa/default.yaml"),
        ("gsm8k", "gsm8k/gsm8k.yaml"),
    ):
        assert list(task_named(name).stop) == config(path)["generation_kwargs"]["until"]


def test_choices_are_the_harnesss(tmp_path: Path) -> None:
    boolq = config("super_glue/boolq/default.yaml")["doc_to_choice"]
    assert one("boolq", BOOLQ_HUB, tmp_path).choices(0) == [f" {choice}" for choice in boolq]
    last = apply_template(config("lambada/lambada_openai.yaml")["doc_to_target"], LAMBADA)
    assert one("lambada", LAMBADA, tmp_path).choices(0) == [last]
    second = one("truthfulqa_mc2", TRUTH_HUB, tmp_path)
    assert second.choices(0) == [f" {choice}" for choice in TRUTH_HUB["mc2_targets"]["choices"]]


def test_coqas_prompt(coqa: ModuleType, tmp_path: Path) -> None:
    task = one("coqa", STORY_HUB, tmp_path)
    assert task.prompt(0) == coqa.doc_to_text(STORY_HUB)
    assert list(task.items[0].answers) == coqa.doc_to_target(STORY_HUB)


@FEW
@given(answer=ANSWERS)
def test_coqas_scores(answer: str, coqa: ModuleType, tmp_path: Path) -> None:
    assert one("coqa", STORY_HUB, tmp_path).score(0, answer) == pytest.approx(
        coqa.process_results(STORY_HUB, [answer])
    )


@given(gold=ANSWERS, answer=ANSWERS)
def test_words_are_compared_as_squad_does(coqa: ModuleType, gold: str, answer: str) -> None:
    theirs = coqa.compute_scores([gold], answer)
    assert {"em": exact_match(answer, [gold]), "f1": f1(answer, [gold])} == pytest.approx(theirs)


@FEW
@given(answer=ANSWERS | st.sampled_from([" dog!", "THE DOG", "dogs", " The  dog "]))
def test_triviaqas_score(answer: str, tmp_path: Path) -> None:
    aliases = TRIVIA_HUB["answer"]["aliases"]
    [[filtered]] = WhitespaceFilter().apply([[answer]], [{}])
    theirs = exact_match_hf_evaluate(
        [filtered] * len(aliases), aliases, ignore_case=True, ignore_punctuation=True
    )["exact_match"]
    ours = one("triviaqa", TRIVIA_HUB, tmp_path).score(0, answer)
    assert ours == {"exact_match": float(theirs > 0)}


@FEW
@given(answer=ANSWERS)
def test_gsm8ks_scores(answer: str, tmp_path: Path) -> None:
    said = config("gsm8k/gsm8k.yaml")
    [metric] = said["metric_list"]
    ours = one("gsm8k", GSM8K, tmp_path).score(0, answer)
    for found in said["filter_list"]:
        options = {key: value for key, value in found["filter"][0].items() if key != "function"}
        [[filtered]] = RegexFilter(**options).apply([[answer]], [{}])
        theirs = exact_match_hf_evaluate(
            [filtered], [GSM8K["answer"]], metric["regexes_to_ignore"], ignore_case=True
        )["exact_match"]
        assert ours[found["name"].replace("-", "_")] == theirs


@settings(FEW, max_examples=8)  # the harness draws a thousand means of one number for each
@given(answer=ANSWERS)
def test_truthfulqas_written_answers(answer: str, tmp_path: Path) -> None:
    from lm_eval.tasks.truthfulqa.utils import preprocess_function, process_results_gen

    theirs = process_results_gen(preprocess_function(GENERATION), [answer])
    assert one("truthfulqa_gen", GENERATION, tmp_path, 1).score(0, answer) == pytest.approx(theirs)


def test_sentences_of_truthfulqa_may_change_places(tmp_path: Path) -> None:
    """rougeLsum compares sentence by sentence, where " . " divides them."""
    from lm_eval.tasks.truthfulqa.utils import preprocess_function, process_results_gen

    record = GENERATION | {"correct_answers": ["No cat barks . They all meow at night"]}
    answer = "They all meow at night . No cat barks"
    ours = one("truthfulqa_gen", record, tmp_path, 1).score(0, answer)
    assert ours == pytest.approx(process_results_gen(preprocess_function(record), [answer]))
    assert ours["rougeL_max"] == pytest.approx(100)


LOGPROBS = st.floats(-80, 0)


@FEW
@given(totals=st.lists(LOGPROBS, min_size=4, max_size=4))
def test_truthfulqas_choices(totals: list[float], tmp_path: Path) -> None:
    from lm_eval.tasks.truthfulqa.utils import process_results_mc2

    scored = [Scored((total,), False) for total in totals]
    theirs = process_results_mc2(TRUTH_HUB, [(total, False) for total in totals])
    assert one("truthfulqa_mc2", TRUTH_HUB, tmp_path, 1).score(0, scored)["acc"] == pytest.approx(
        theirs["acc"]
    )
    first = one("truthfulqa_mc1", TRUTH_HUB, tmp_path, 1).score(0, scored[:3])["acc"]
    assert first == float(np.argmax(totals[:3]) == 0)


def test_the_unlikeliest_choices_still_have_shares(tmp_path: Path) -> None:
    """Probabilities that no float holds: the harness divides 0 by 0 there."""
    scored = [Scored((total,), False) for total in (-2000.0, -2000.0, -2000.0, -2000.0)]
    assert one("truthfulqa_mc2", TRUTH_HUB, tmp_path, 1).score(0, scored) == {"acc": 0.5}


@given(st.lists(st.tuples(LOGPROBS, st.text(min_size=1, max_size=9)), min_size=2, max_size=5), st.data())
def test_accuracies(offered: list[tuple[float, str]], data: st.DataObject) -> None:
    """`acc` and `acc_norm`, as ConfigurableTask.process_results has them."""
    gold = data.draw(st.integers(0, len(offered) - 1))
    totals, lengths = np.array([o[0] for o in offered]), np.array([float(len(o[1])) for o in offered])
    scored = [Scored((total,), False) for total in totals]
    assert accuracy(scored, [gold]) == float(np.argmax(totals) == gold)
    texts = [text for _, text in offered]
    assert accuracy_per_character(scored, texts, [gold]) == float(np.argmax(totals / lengths) == gold)


def test_bits_per_byte_and_lambada(tmp_path: Path) -> None:
    from lm_eval.api.metrics import bits_per_byte, perplexity

    texts = ["Cats purr.", "Naïve ones too."]
    scored = [Scored((-3.0, -4.5), False), Scored((-20.25,), False)]
    task = task_named("bits_per_byte").load(write(tmp_path, {"text": texts[0]}))
    task.items = texts  # type: ignore[attr-defined]
    ours = sum(task.score(i, scored[i])["bits_per_byte"] * task.weight(i) for i in range(2))  # type: ignore[attr-defined]
    sizes = [len(text.encode()) for text in texts]
    theirs = bits_per_byte([(s.total, size) for s, size in zip(scored, sizes, strict=True)])
    assert ours / sum(sizes) == pytest.approx(theirs)
    word = one("lambada", LAMBADA, tmp_path).score(0, [Scored((-1.5, -0.5), True)])
    assert word["acc"] == 1.0 and math.exp(-word["logprob"]) == pytest.approx(perplexity([-2.0]))
