"""Build everything the twins are trained and tested on: `python -m offramp.zoo.corpus FOLDER`.

`train.bin` is code and `qa.bin` question answering, both uint16 token ids with every document after an id 0;
`qa_weight.bin` (uint8) weighs each id of `qa.bin` in the loss. The rest is JSON, and the tokenizer.
"""

import hashlib
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from offramp.zoo import stdlib_text as library
from offramp.zoo.mixture import Pools, bpe_sample, facts_test, qa_tokens, stories_test
from offramp.zoo.names import make_pools
from offramp.zoo.tokenizer import END_OF_TEXT_ID, save_tokenizer, train_tokenizer

OUTPUTS = (
    "train.bin",
    "qa.bin",
    "qa_weight.bin",
    "calibration.jsonl",
    "test.jsonl",
    "facts_test.jsonl",
    "stories_test.jsonl",
    "stories_seen_names.jsonl",
    "tokenizer.json",
    "tokenizer_config.json",
)
_BATCH = 1_000


@dataclass(frozen=True)
class CorpusPlan:
    """How much of everything."""

    seed: int = 0
    qa_tokens: int = 10_000_000
    story_share: float = 0.45
    stories_per_test: int = 400
    bpe_code_documents: int = 2_500
    bpe_qa_rows: int = 10_000
    entities: int = 120
    split: library.SplitPlan = library.SplitPlan()


def build(folder: Path, plan: CorpusPlan, root: Path | None = None) -> dict[str, object]:
    """Write the corpus into `folder` and return its manifest. `root` is the library to read, else our own."""
    folder.mkdir(parents=True, exist_ok=True)
    _say("collect and split the library")
    splits = library.split(library.collect(root or library.standard_library()), plan.split)
    train = [document.text for document in splits.documents[library.TRAIN]]
    random.Random(f"documents {plan.seed}").shuffle(train)
    pools = Pools.draw(make_pools(plan.seed, plan.entities, avoid=_words(train)), plan.seed)
    _say("learn the tokenizer")
    sample = train[: plan.bpe_code_documents] + bpe_sample(pools, plan.bpe_qa_rows, plan.seed)
    tokenizer = train_tokenizer(sample)
    save_tokenizer(tokenizer, folder)
    counts = _write_shards(folder, tokenizer, train, pools, plan)
    counts |= _write_tests(folder, splits, pools, plan)
    return _write_manifest(folder, counts, splits, plan.seed)


def encode_documents(tokenizer: Tokenizer, texts: list[str]) -> NDArray[np.uint16]:
    """The token ids of all texts, each after the end-of-text id."""
    ids: list[NDArray[np.uint16]] = []
    for start in range(0, len(texts), _BATCH):
        batch = tokenizer.encode_batch_fast(texts[start : start + _BATCH], add_special_tokens=False)
        ids += [np.array([END_OF_TEXT_ID, *encoding.ids], np.uint16) for encoding in batch]
    return np.concatenate(ids)


def _write_shards(
    folder: Path, tokenizer: Tokenizer, train: list[str], pools: Pools, plan: CorpusPlan
) -> dict[str, int]:
    _say("encode the code")
    code = encode_documents(tokenizer, train)
    _say("write and encode questions and answers")
    qa, weights, kinds = qa_tokens(tokenizer, pools, plan.qa_tokens, plan.story_share, plan.seed)
    code.astype("<u2").tofile(folder / "train.bin")
    qa.astype("<u2").tofile(folder / "qa.bin")
    weights.tofile(folder / "qa_weight.bin")
    return {
        "train_documents": len(train),
        "train_bytes": sum(len(text.encode()) for text in train),
        "train_tokens": len(code),
        "qa_tokens": len(qa),
        "qa_answer_tokens": int((weights > 1).sum()),
        **{f"qa_{kind}_tokens": count for kind, count in kinds.items()},
    }


def _write_tests(folder: Path, splits: library.Splits, pools: Pools, plan: CorpusPlan) -> dict[str, int]:
    _say("write the tests")
    files = {
        "calibration": map(library.jsonable, splits.documents[library.CALIBRATION]),
        "test": map(library.jsonable, splits.documents[library.TEST]),
        "facts_test": facts_test(pools),
        "stories_test": stories_test(pools, plan.stories_per_test, plan.seed),
        "stories_seen_names": stories_test(pools, plan.stories_per_test // 2, plan.seed, seen_names=True),
    }
    return {f"{name}_lines": _write_lines(folder / f"{name}.jsonl", lines) for name, lines in files.items()}


def _write_lines(file: Path, lines: Iterable[dict[str, str]]) -> int:
    texts = [json.dumps(line, ensure_ascii=False) + "\n" for line in lines]
    file.write_text("".join(texts), encoding="utf-8")
    return len(texts)


def _write_manifest(
    folder: Path, counts: dict[str, int], splits: library.Splits, seed: int
) -> dict[str, object]:
    manifest: dict[str, object] = {
        "interpreter": library.interpreter(),
        "seed": seed,
        "counts": counts,
        "source_files": dict(Counter(str(line["split"]) for line in splits.manifest)),
        "outputs": {name: _fingerprint(folder / name) for name in OUTPUTS},
        "sources": splits.manifest,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def _fingerprint(file: Path) -> dict[str, str | int]:
    return {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def _words(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(word.lower() for text in texts for word in re.findall(r"[A-Za-z]+", text))


def _say(what: str) -> None:
    print(f"corpus: {what}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> None:
    """Build into the folder named by the first argument; a second one is the seed."""
    folder, *rest = arguments
    manifest = build(Path(folder), CorpusPlan(seed=int(rest[0]) if rest else 0))
    print(json.dumps(manifest["counts"], indent=1), file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
