"""`offramp eval`: questions in, measures out; answers are kept, and nothing is asked twice."""

from __future__ import annotations

import json
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

from offramp.cli import evaluation
from offramp.engine.engine import Engine
from offramp.evaluation import evaluate
from offramp.zoo.bundled import HOME
from tests.cli.conftest import Run

WRITTEN = [{"prompt": f"Q{i}: who?\nA:", "answer": f" {i}"} for i in range(5)]
CHOSEN = [
    {
        "question": f"Who is {i}?",
        "choices": {"text": ["cat", "a dog"], "label": ["A", "B"]},
        "answerKey": "AB"[i % 2],
    }
    for i in range(4)
]
EARLY = ("--propagation", "defer", "--threshold", "0.2", "--drafts", "8")
SMALL = ("--max-tokens", "6", "--slots", "3", *EARLY)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "written.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in WRITTEN))
    return path


@pytest.fixture
def chosen(tmp_path: Path) -> Path:
    path = tmp_path / "chosen.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in CHOSEN))
    return path


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry a request that any engine is given."""
    seen: list[int] = []
    add = Engine.add
    monkeypatch.setattr(Engine, "add", lambda self, request: (seen.append(1), add(self, request))[1])
    return seen


def test_every_measure_of_both_arms(run: Run, checkpoint: Path, written: Path) -> None:
    result = run("eval", checkpoint, "--task", "stories_qa", "--source", written, *SMALL)
    assert result.code == 0, result.err
    assert result.out.startswith(f"stories_qa · 5 questions · {checkpoint}")
    for name in (
        "full depth",
        "defer, gate > 0.20",
        "exact_match",
        "agreement",
        "depth",
        "bytes",
        "flops",
        "looping",
    ):
        assert name in result.out
    assert "NaN" not in result.out and "nan" not in result.out


def test_json_has_the_same(run: Run, checkpoint: Path, written: Path) -> None:
    result = run("eval", checkpoint, "--task", "stories_qa", "--source", written, *SMALL, "--json")
    found = json.loads(result.out)
    assert found["items"] == 5 and found["headline"] == "exact_match" and not found["at_floor"]
    assert found["arms"]["exits"]["thresholds"] == [0.2] and found["arms"]["full"]["policy"] == "never"
    rows = {row["name"]: row for row in found["rows"]}
    score = rows["exact_match"]
    assert score["difference"]["value"] == pytest.approx(score["exits"]["value"] - score["full"]["value"])
    assert rows["agreement"]["full"] is None and 0 <= rows["agreement"]["exits"]["value"] <= 1
    assert 1 <= rows["depth"]["exits"]["value"] < 4, "some left"


def test_answers_are_kept_and_not_asked_again(
    run: Run, checkpoint: Path, written: Path, tmp_path: Path, turns: list[int]
) -> None:
    out = tmp_path / "answers.jsonl"
    ask = ("eval", checkpoint, "--task", "stories_qa", "--source", written, *SMALL, "--json", "--out", out)
    first = run(*ask)
    assert len(turns) == 10 and len(lines(out)) == 10
    assert {line["setting"] for line in lines(out)} == {"full depth", "defer, gate > 0.20"}
    assert all(set(line["scores"]) == {"exact_match"} and line["text"] == line["text"] for line in lines(out))
    again = run(*ask)
    assert again.out == first.out and len(turns) == 10 and len(lines(out)) == 10
    other = run(*ask, "--threshold", "0.9")
    assert other.code == 0 and len(turns) == 15, "the full model's answers are shared"
    shorter = run(*(part if part != "6" else "5" for part in ask))
    assert shorter.code == 0 and len(turns) == 25, "shorter answers are others"


@pytest.mark.parametrize("kept", [0, 3, 7])
def test_an_interrupted_run_goes_on(
    run: Run, checkpoint: Path, written: Path, tmp_path: Path, turns: list[int], kept: int
) -> None:
    out = tmp_path / "answers.jsonl"
    ask = ("eval", checkpoint, "--task", "stories_qa", "--source", written, *SMALL, "--json", "--out", out)
    whole = run(*ask)
    raw = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(raw[:kept]) + raw[kept][: len(raw[kept]) // 2])
    turns.clear()
    assert run(*ask).out == whole.out
    assert len(turns) == 10 - kept and len(lines(out)) == 10


def test_ctrl_c_keeps_what_is_answered(
    run: Run, checkpoint: Path, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, asked = tmp_path / "answers.jsonl", evaluation.answers

    def interrupted(*args: Any) -> Any:
        yield next(iter(asked(*args)))
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "answers", interrupted)
    monkeypatch.setattr(evaluation.signal, "signal", lambda *_: None)
    result = run("eval", checkpoint, "--task", "stories_qa", "--source", written, *SMALL, "--out", out)
    assert result.code == 130 and "interrupted: the same command goes on with what is in" in result.err
    assert len(lines(out)) == 1 and not result.out


def test_a_file_of_something_else_is_left_alone(
    run: Run, checkpoint: Path, written: Path, tmp_path: Path
) -> None:
    before = written.read_bytes()
    result = run("eval", checkpoint, "--task", "stories_qa", "--source", written, *SMALL, "--out", written)
    assert result.code == 1 and "written.jsonl, line 1: not written by offramp eval" in result.err
    assert written.read_bytes() == before


def test_answers_that_nobody_gave_are_asked_for_or_refused(
    run: Run, checkpoint: Path, written: Path, tmp_path: Path
) -> None:
    out = tmp_path / "answers.jsonl"
    command = ("eval", checkpoint, "--task", "stories_qa", "--source", written, *SMALL, "--out", out)
    whole = run(*command)
    first, *rest = out.read_text().splitlines(keepends=True)
    item = json.loads(first)
    count = len(item["reply"]["tokens"])
    foreign = [
        {"tokens": [10**30] * count},
        {"tokens": [-1] * count},
        {"work": {"exits.9.gate": {"run": [1, 1]}}},
    ]
    for change in (*({"reply": item["reply"] | each} for each in foreign), {"scored": []}):
        kept = {key: value for key, value in item.items() if key != "reply"}
        out.write_text(json.dumps(kept | change) + "\n" + "".join(rest))
        assert run(*command).out == whole.out
    for bad in ({"block_tokens": float("inf")}, {"depths": [1]}):
        line = json.dumps(item | {"reply": item["reply"] | bad}) + "\n"
        out.write_text(line)
        result = run(*command)
        assert result.code == 1 and "line 1: not written by offramp eval" in result.err
        assert out.read_text() == line


def test_given_texts_are_scored(run: Run, checkpoint: Path, chosen: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    ask = ("eval", checkpoint, "--task", "arc_easy", "--source", chosen, *EARLY, "--out", out)
    result = run(*ask)
    assert result.code == 0, result.err
    for name in ("acc", "acc_norm", "depth", "tokens_left"):
        assert name in result.out
    found = lines(out)
    assert len(found) == 8
    for line in found:
        texts = line["scored"]
        assert [len(text["logprobs"]) for text in texts] == [4, 6], "bytes, the space too"
        assert all(text["depths"][0] == 4 for text in texts), "a text's first token is the prompt's"
    assert any(d < 4 for line in found for text in line["scored"] for d in text["depths"])
    assert run(*ask).out == result.out
    refused = run(*ask, "--max-tokens", "3")
    assert refused.code == 2 and "max_tokens is for tasks whose answers are written" in refused.err


def test_one_arm_without_exits(run: Run, checkpoint: Path, chosen: Path, written: Path) -> None:
    for task, source in (("arc_easy", chosen), ("stories_qa", written)):
        result = run("eval", checkpoint, "--task", task, "--source", source, "--exits", "none")
        assert result.code == 0 and "full depth" in result.out and "exits - full" not in result.out


def test_official_tasks_at_floor_and_guesses_are_marked(
    run: Run, checkpoint: Path, chosen: Path, tmp_path: Path
) -> None:
    result = run("eval", checkpoint, "--task", "arc_easy", "--source", chosen, "--exits", "none", "--json")
    assert json.loads(result.out)["guessing"] == 0.5
    sums = tmp_path / "sums.jsonl"
    sums.write_text(json.dumps({"question": "2 and 2?", "answer": "#### 4"}) + "\n")
    ask = ("eval", checkpoint, "--task", "gsm8k", "--source", sums, "--few-shot", "0", *SMALL)
    result = run(*ask)
    assert "at floor: the full model itself has less than 5 % strict_match" in result.out
    assert json.loads(run(*ask, "--json").out)["at_floor"] is True


def test_loops_are_reported_apart(
    run: Run, checkpoint: Path, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first reply to be judged is said to loop."""
    said = chain([True], repeat(False))
    monkeypatch.setattr(evaluate, "looping", lambda tokens: next(said))
    ask = ("eval", checkpoint, "--task", "stories_qa", "--source", written, *SMALL)
    found = json.loads(run(*ask, "--json").out)
    assert found["loops"] == 1 and [row["name"] for row in found["steady"]] == ["exact_match"]
    said = chain([True], repeat(False))
    shown = run(*ask).out
    assert "quality without 1 questions where a reply loops" in shown
    assert "note: 1 of 5 questions have a reply that loops." in shown


def test_prompts_that_do_not_fit_lose_their_beginning(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"prompt": "long " * 40, "answer": " x"}) + "\n")
    result = run("eval", checkpoint, "--task", "facts_qa", "--source", long, *SMALL)
    assert result.code == 0 and "note: 1 of 1 prompts were too long and lost their beginning" in result.out
    refused = run("eval", checkpoint, "--task", "facts_qa", "--source", long, *EARLY, "--max-tokens", "64")
    assert refused.code == 2 and "it must be between 1 and 63" in refused.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "what to ask? Give --task NAME"),
        (("--task", "boolq", "--harness", "boolq"), "one of the two"),
        (("--task", "boolq"), 'boolq needs a source: a file or "hf" for aps/super_glue'),
        (("--task", "bolq"), "Did you mean 'boolq'"),
        (("--task", "boolq", "--include", "x"), "--include is for --harness"),
        (("--harness", "boolq", "--source", "x"), "--source is for --task"),
        (("--harness", "boolq", "--out", "x"), "--out keeps the answers of --task"),
        (("--task", "facts_qa", "--limit", "0"), "limit"),
        (("--task", "facts_qa", "--propagation", "defer"), "defer changes the text"),
    ],
)
def test_what_cannot_be_asked_for(run: Run, checkpoint: Path, options: tuple[str, ...], said: str) -> None:
    result = run("eval", checkpoint, *options)
    assert result.code == 2 and said in result.err


@pytest.mark.skipif(not HOME.is_dir(), reason="the bundled checkpoints are not trained yet")
def test_the_twin_knows_its_facts(run: Run) -> None:
    ask = (
        "eval",
        "tiny-mamba2",
        "--task",
        "facts_qa",
        "--limit",
        "6",
        "--json",
        "--drafts",
        "8",
        "--slots",
        "6",
    )
    rows = {row["name"]: row for row in json.loads(run(*ask).out)["rows"]}
    assert rows["exact_match"]["full"]["value"] == 1.0
    assert rows["identical"]["exits"]["value"] == 1.0, "verify is the full model's own text"


@pytest.mark.filterwarnings("ignore")
def test_the_harness_from_the_command_line(
    run: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "rows.jsonl").write_text('{"q": "Who barks?", "gold": 1}\n' * 3)
    (tmp_path / "own.yaml").write_text(
        f"task: own_barks\ndataset_path: json\ndataset_kwargs:\n  data_files: {tmp_path}/rows.jsonl\n"
        "test_split: train\noutput_type: multiple_choice\ndoc_to_text: '{{q}}'\ndoc_to_choice: ['a cat', 'a dog']\n"
        "doc_to_target: gold\nmetric_list:\n  - metric: acc\n    aggregation: mean\n    higher_is_better: true\n"
    )
    ask = ("eval", checkpoint, "--harness", "own_barks", "--include", tmp_path, *EARLY)
    result = run(*ask, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["results"]["own_barks"]["acc,none"] in (0.0, 1.0) and found["depth"] < 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_task_that_the_harness_has_not(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    result = run("eval", checkpoint, "--harness", "own_meows", "--include", tmp_path)
    assert result.code == 2 and "the harness has no task 'own_meows'" in result.err


def test_a_missing_harness_is_named(run: Run, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)
    result = run("eval", checkpoint, "--harness", "boolq")
    assert result.code == 2 and "pip install 'offramp[harness]'" in result.err
