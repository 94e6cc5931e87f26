"""The questions of the tasks stories_qa and facts_qa, from a corpus: `python -m offramp.zoo.tasks CORPUS_FOLDER`."""

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from offramp.data.jsonl import read_jsonl
from offramp.evaluation.tasks import facts_qa, stories_qa
from offramp.files import write_whole

_SEED = 0
_COUNT = 480


def choose_turns(turns: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """One question at random of each of `count` stories: items that share a story would not be independent."""
    rng, stories = random.Random(_SEED), dict[str, list[dict[str, Any]]]()
    for turn in turns:
        stories.setdefault(turn["prompt"].partition("\nQ:")[0], []).append(turn)
    chosen = rng.sample(sorted(stories), count)
    return [rng.choice(stories[story]) for story in chosen]


def main(corpus: Path) -> None:
    turns, facts = (
        [item for _, item in read_jsonl(corpus / f"{kind}_test.jsonl")] for kind in ("stories", "facts")
    )
    random.Random(_SEED).shuffle(facts)
    _write(Path(stories_qa.__file__), choose_turns(turns, _COUNT))
    _write(Path(facts_qa.__file__), facts[:_COUNT])


def _write(beside: Path, items: Sequence[dict[str, Any]]) -> None:
    lines = (json.dumps(item, ensure_ascii=False) for item in items)
    write_whole(beside.with_suffix(".jsonl"), "".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
