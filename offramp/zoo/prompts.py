"""The demo's prompts, drawn from held-out documents: `python -m offramp.zoo.prompts CORPUS_FOLDER`."""

import json
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer

from offramp.data.jsonl import read_jsonl

Kind = Literal["code", "facts", "story"]

_SEED = 0
_CODE_TOKENS = range(60, 151)
_STORY_KINDS = ("who-has", "where", "what")
_DEFINITION = re.compile(r"( *)(?:async )?def ")


@dataclass(frozen=True)
class Prompt:
    """What the model is to continue, and the right answer where there is one."""

    kind: Kind
    prompt: str
    answer: str | None
    source: str


def load_prompts() -> list[Prompt]:
    """The prompts that come with the package."""
    text = resources.files("offramp.zoo").joinpath("prompts.jsonl").read_text(encoding="utf-8")
    return [Prompt(**json.loads(line)) for line in text.removesuffix("\n").split("\n")]


def choose_prompts(corpus: Path, code: int = 5, facts: int = 4) -> list[Prompt]:
    """Some of each kind; the code from different files, the facts from different relations."""
    rng = random.Random(_SEED)
    tokenizer = Tokenizer.from_file(str(corpus / "tokenizer.json"))
    documents = _read_lines(corpus / "test.jsonl")
    rng.shuffle(documents)
    asked = _read_lines(corpus / "facts_test.jsonl")
    rng.shuffle(asked)
    told = [line for line in _read_lines(corpus / "stories_test.jsonl") if line["level"] != "easy"]
    rng.shuffle(told)
    return [
        *_first_distinct(_code_prompts(documents, tokenizer), code),
        *_first_distinct((Prompt("facts", t["prompt"], t["answer"], t["kind"]) for t in asked), facts),
        *(_story_prompt(told, kind) for kind in _STORY_KINDS),
    ]


def cut_inside_function(text: str, tokenizer: Tokenizer, tokens: range = _CODE_TOKENS) -> str | None:
    """The longest beginning of `text` of so many tokens that ends with a line inside a function's body.

    The closing newline is left to the model: with the next line's indent it makes one token.
    """
    lines = text.splitlines()
    found = None
    for end in range(2, len(lines)):
        head = "\n".join(lines[:end])
        count = len(tokenizer.encode(head).ids)
        if count >= tokens.stop:
            break
        if count in tokens and _is_inside(lines, end):
            found = head
    return found


def _is_inside(lines: list[str], end: int) -> bool:
    """Whether the lines before and after the cut are both in the body of the last function begun."""
    heads = [(i, _DEFINITION.match(line)) for i, line in enumerate(lines[: end - 1])]
    begun = [(i, len(match[1])) for i, match in heads if match]
    if not begun:
        return False
    start, indent = begun[-1]
    following = next((line for line in lines[end:] if line.strip()), "")
    body = [line for line in lines[start + 1 : end] if line.strip()] + [following]
    return bool(lines[end - 1].strip()) and all(_indent(line) > indent for line in body)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _code_prompts(documents: list[dict[str, Any]], tokenizer: Tokenizer) -> Iterator[Prompt]:
    for document in documents:
        head = cut_inside_function(document["text"], tokenizer)
        if head is not None and head.startswith(("def ", "class ", "@")):
            yield Prompt("code", head, None, document["id"])


def _story_prompt(told: list[dict[str, Any]], kind: str) -> Prompt:
    line = next(line for line in told if line["kind"] == kind and "\nA: " in line["prompt"])
    return Prompt("story", line["prompt"], line["answer"], f"{line['kind']} {line['level']}")


def _first_distinct(prompts: Iterator[Prompt], count: int) -> list[Prompt]:
    chosen: dict[str, Prompt] = {}
    for prompt in prompts:
        chosen.setdefault(prompt.source.split("#")[0], prompt)
        if len(chosen) == count:
            break
    return list(chosen.values())


def _read_lines(file: Path) -> list[dict[str, Any]]:
    return [item for _, item in read_jsonl(file)]


def main(corpus: str) -> None:
    """Write `prompts.jsonl` beside this file."""
    lines = [json.dumps(asdict(prompt), ensure_ascii=False) for prompt in choose_prompts(Path(corpus))]
    Path(__file__).with_name("prompts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
