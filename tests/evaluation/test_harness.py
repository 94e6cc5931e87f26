"""lm-evaluation-harness drives our engine: its own tasks from local files, without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from offramp.engine.engine import Engine
from offramp.errors import UsageError
from offramp.evaluation.harness import OfframpLM
from offramp.evaluation.setting import FULL, Setting
from offramp.zoo.bundled import HOME, load

pytestmark = [
    pytest.mark.skipif(not HOME.is_dir(), reason="the bundled checkpoints are not trained yet"),
    pytest.mark.filterwarnings("ignore"),  # of the harness and its libraries
]
CHOICES = ["the mill", "the shop"]
EARLY = Setting("early", "defer", "gate", (0.3,))


@pytest.fixture(scope="module")
def checkpoint() -> Any:
    return load("tiny-mamba2")


def lm(checkpoint: Any, exits: bool = False, max_len: int = 96) -> OfframpLM:
    found = checkpoint.exits if exits else None
    engine = Engine(checkpoint.model, found, checkpoint.text, slots=4, max_len=max_len)
    return OfframpLM(engine, EARLY if exits else FULL)


def instances(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, args, i) for i, args in enumerate(arguments)]


@torch.inference_mode()
def teacher_forced(checkpoint: Any, before: list[int], after: list[int]) -> tuple[float, bool]:
    logprobs = checkpoint.model(torch.tensor([[*before, *after]]))[0].log_softmax(-1)[len(before) - 1 : -1]
    total = sum(float(row[token]) for row, token in zip(logprobs, after, strict=True))
    return total, logprobs.argmax(-1).tolist() == after


def test_loglikelihoods_are_teacher_forced(checkpoint: Any) -> None:
    model, text = lm(checkpoint), checkpoint.text
    asked = [
        ("Putrai is in the mill. Where is Putrai?", " the mill"),
        ("Question:", " What?"),
        ("", "def f():"),
    ]
    for (context, given), (total, greedy) in zip(
        asked, model.loglikelihood(instances("loglikelihood", *asked), disable_tqdm=True), strict=True
    ):
        before = text.encode(context)
        after = text.encode(context + given)[len(before) :]
        want, is_greedy = teacher_forced(checkpoint, before, after)
        assert total == pytest.approx(want, abs=1e-4) and greedy == is_greedy


def test_rolling_is_teacher_forced(checkpoint: Any) -> None:
    ids = checkpoint.text.encode("def f(x):\n    return x + 1\n")
    [total] = lm(checkpoint).loglikelihood_rolling(instances("rolling", ("def f(x):\n    return x + 1\n",)))
    assert total == pytest.approx(teacher_forced(checkpoint, ids[:1], ids[1:])[0], abs=1e-4)


def test_long_texts_are_cut_into_windows(checkpoint: Any) -> None:
    whole = "the cat sat on the mat and then " * 12
    [total] = lm(checkpoint, max_len=32).loglikelihood_rolling(instances("rolling", (whole,)))
    [exact] = lm(checkpoint, max_len=256).loglikelihood_rolling(instances("rolling", (whole,)))
    assert total < exact < 0, "a short context foresees less"
    ids, given = checkpoint.text.encode(whole.rstrip()), checkpoint.text.encode(whole + "a")
    after = given[len(ids) :]
    want, _ = teacher_forced(checkpoint, ids[-(16 - len(after)) :], after)
    for exits in (False, True):
        model = lm(checkpoint, exits, max_len=16)
        [(cut, _)] = model.loglikelihood(instances("ll", (whole, "a")), disable_tqdm=True)
        assert exits or cut == pytest.approx(want, abs=1e-4)


def test_exits_change_what_follows_the_first_token(checkpoint: Any) -> None:
    early, asked = (
        lm(checkpoint, exits=True),
        [("Question: What does Plesham", " play?"), ("def f", "(x, y): return")],
    )
    found = early.loglikelihood(instances("loglikelihood", *asked), disable_tqdm=True)
    full = lm(checkpoint).loglikelihood(instances("loglikelihood", *asked), disable_tqdm=True)
    assert [total for total, _ in found] != pytest.approx([total for total, _ in full], abs=1e-3)
    said = early.depths.said(12)
    assert 3 <= said["depth"] < 12 and 0 < said["tokens_left"] <= 1


def test_generation_stops_where_it_is_told(checkpoint: Any) -> None:
    model = lm(checkpoint)
    prompt = "Question: What does Plesham work as?\nAnswer:"
    options = [{"until": ["\n"], "max_gen_toks": 8}, {"until": "y", "max_gen_toks": 8}, {"max_gen_toks": 1}]
    found = model.generate_until(instances("generate_until", *((prompt, option) for option in options)))
    assert found[0] == " lawyer" and found[1] == " law" and found[2] == " lawyer"
    hot = {"do_sample": True, "temperature": 50.0, "max_gen_toks": 8}
    assert model.generate_until(instances("generate_until", (prompt, hot))) != found[:1]
    with pytest.raises(UsageError, match="asks for 96 tokens"):
        model.generate_until(instances("generate_until", (prompt, {"max_gen_toks": 96})))


@pytest.fixture
def local_tasks(tmp_path: Path) -> Path:
    """A multiple choice and a written answer, of our own."""
    rows = [
        {"q": f"Putrai is in {CHOICES[i % 2]}.\nQ: Where is Putrai?\nA:", "choices": CHOICES, "gold": i % 2}
        for i in range(6)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = f"dataset_path: json\ndataset_kwargs:\n  data_files: {tmp_path}/rows.jsonl\ntest_split: train\n"
    base += "doc_to_text: '{{q}}'\n"
    metric = "metric_list:\n  - metric: {}\n    aggregation: mean\n    higher_is_better: true\n"
    (tmp_path / "choice.yaml").write_text(
        f"task: own_choice\n{base}output_type: multiple_choice\ndoc_to_choice: '{{{{choices}}}}'\n"
        f"doc_to_target: gold\n{metric.format('acc')}"
    )
    (tmp_path / "written.yaml").write_text(
        f"task: own_written\n{base}output_type: generate_until\ndoc_to_target: ' {{{{choices[gold]}}}}'\n"
        f"generation_kwargs:\n  until: ['\\n']\n  max_gen_toks: 6\n{metric.format('exact_match')}"
    )
    return tmp_path


def test_the_harness_runs_offline(
    local_tasks: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, checkpoint: Any
) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    manager = TaskManager(include_path=str(local_tasks), include_defaults=False)
    found = simple_evaluate(
        model="offramp",
        model_args={
            "pretrained": str(HOME / "tiny-mamba2"),
            "propagation": "defer",
            "threshold": 0.3,
            "max_len": 96,
        },
        tasks=["own_choice", "own_written"],
        task_manager=manager,
        bootstrap_iters=0,
    )["samples"]
    assert len(found["own_choice"]) == len(found["own_written"]) == 6
    early = lm(checkpoint, exits=True)
    for sample in found["own_choice"]:
        context = sample["doc"]["q"]
        ours = early.loglikelihood(
            instances("loglikelihood", *((context, f" {choice}") for choice in CHOICES)), disable_tqdm=True
        )
        theirs = [total for [(total, _)] in sample["resps"]]
        assert theirs == pytest.approx([total for total, _ in ours], abs=1e-4)


def test_arguments_that_are_none_are_refused() -> None:
    with pytest.raises(UsageError, match="pretrained is missing; model_args of offramp are exits"):
        OfframpLM.create_from_arg_string("exits=none")
    with pytest.raises(UsageError, match="batch is none"):
        OfframpLM.create_from_arg_obj({"pretrained": "x", "batch": 3})
