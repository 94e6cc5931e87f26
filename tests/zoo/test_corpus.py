"""The whole build on a small made-up library, and the prompts that come with the package."""

import hashlib
import json
import random
from dataclasses import asdict
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from offramp.evaluation.similarity import same_first_line
from offramp.zoo.corpus import CorpusPlan, build
from offramp.zoo.prompts import Prompt, choose_prompts, cut_inside_function, load_prompts
from offramp.zoo.stdlib_text import SplitPlan

PLAN = CorpusPlan(
    qa_tokens=30_000, stories_per_test=60, bpe_qa_rows=200, entities=16, split=SplitPlan(10, 10, smallest=100)
)


def write_library(folder: Path) -> Path:
    rng = random.Random(0)
    folder.mkdir()
    for i in range(60):
        body = "".join(f"    a{rng.randrange(999)} = b{rng.randrange(999)} + {i}\n" for _ in range(30))
        (folder / f"m{i}.py").write_text(f"def function{i}(x):\n{body}    return x\n")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("corpus")
    build(base / "a", PLAN, write_library(base / "library"))
    build(base / "b", PLAN, base / "library")
    return base / "a"


def test_build_is_deterministic(corpus: Path) -> None:
    files = sorted(corpus.iterdir())
    assert len(files) == 11
    assert all(file.read_bytes() == (corpus.parent / "b" / file.name).read_bytes() for file in files)


def test_manifest_fingerprints_every_output(corpus: Path) -> None:
    manifest = json.loads((corpus / "manifest.json").read_text())
    assert {*manifest["outputs"], "manifest.json"} == {file.name for file in corpus.iterdir()}
    for name, entry in manifest["outputs"].items():
        assert entry["sha256"] == hashlib.sha256((corpus / name).read_bytes()).hexdigest()


def test_shards_hold_the_counted_tokens(corpus: Path) -> None:
    counts = json.loads((corpus / "manifest.json").read_text())["counts"]
    code, qa = (np.fromfile(corpus / f"{name}.bin", "<u2") for name in ("train", "qa"))
    weights = np.fromfile(corpus / "qa_weight.bin", np.uint8)
    assert (len(code), len(qa), len(weights)) == (
        counts["train_tokens"],
        counts["qa_tokens"],
        counts["qa_tokens"],
    )
    assert (code == 0).sum() == counts["train_documents"] and code[0] == qa[0] == 0


def test_prompts_are_chosen_from_the_tests(corpus: Path) -> None:
    prompts = choose_prompts(corpus)
    assert [prompt.kind for prompt in prompts] == ["code"] * 5 + ["facts"] * 4 + ["story"] * 3
    assert all((prompt.answer is None) == (prompt.kind == "code") for prompt in prompts)


def test_bundled_prompts_load() -> None:
    prompts = load_prompts()
    assert len(prompts) == 12 and len({prompt.prompt for prompt in prompts}) == 12
    assert not any(prompt.prompt.endswith((" ", "\n")) for prompt in prompts)


def test_a_prompt_may_hold_what_python_calls_a_line_break(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = json.dumps(asdict(Prompt("code", "a\u2028b", None, "here")), ensure_ascii=False)
    (tmp_path / "prompts.jsonl").write_text(f"{line}\n{line}\n", encoding="utf-8")
    monkeypatch.setattr(resources, "files", lambda _: tmp_path)
    assert [prompt.prompt for prompt in load_prompts()] == ["a\u2028b"] * 2


def test_code_is_cut_inside_a_body(corpus: Path) -> None:
    tokenizer = Tokenizer.from_file(str(corpus / "tokenizer.json"))
    text = "def f(x):\n    y = x\n    return y\n\n\nz = 1\nz = 2\n"
    assert cut_inside_function(text, tokenizer, range(1, 99)) == "def f(x):\n    y = x"
    assert cut_inside_function("z = 1\n" * 9, tokenizer, range(1, 99)) is None


@pytest.mark.parametrize(
    ("prediction", "right"),
    [(" Oslo\nQ: more", True), ("Oslo", True), ("\n  Oslo \n", True), ("Oslo city", False), ("", False)],
)
def test_exact_match_reads_the_first_line(prediction: str, right: bool) -> None:
    assert same_first_line(prediction, " Oslo") is right
