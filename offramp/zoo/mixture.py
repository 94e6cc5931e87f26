"""The question answering of the corpus: stories and facts mixed for training, and apart for the tests."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from offramp.zoo.facts import Fact, fact_rows, invent_facts, load_relations
from offramp.zoo.names import NamePools
from offramp.zoo.rows import Row, encode_rows, row_text
from offramp.zoo.stories import Cast, Level, load_things, stories

_LEVELS: tuple[Level, ...] = ("easy", "medium", "full", "full")
_BATCH = 200


@dataclass(frozen=True)
class Pools:
    """The facts, the cast of training stories, and casts that share no name with it."""

    facts: tuple[Fact, ...]
    training: Cast
    unseen_names: Cast
    unseen_everything: Cast

    @classmethod
    def draw(cls, names: NamePools, seed: int) -> "Pools":
        """Facts about the entities, and casts for the other names."""
        seen, unseen = load_things()
        return cls(
            facts=tuple(invent_facts(names.entities, seed, load_relations())),
            training=replace(seen, names=names.training),
            unseen_names=replace(seen, names=names.held_out),
            unseen_everything=replace(unseen, names=names.held_out),
        )


def qa_tokens(
    tokenizer: Tokenizer, pools: Pools, wanted: int, story_share: float, seed: int
) -> tuple[NDArray[np.uint16], NDArray[np.uint8], dict[str, int]]:
    """About `wanted` ids and their weights, and how many of them each kind of row has."""
    kinds: dict[str, Iterator[Row]] = {
        "stories": (story.row() for story in stories(pools.training, seed, _LEVELS)),
        "facts": fact_rows(pools.facts, seed),
    }
    tokens: Counter[str] = Counter(stories=0, facts=0)
    ids, weights = [], []
    while (
        sum(tokens.values()) < wanted
    ):  # the kind that lags behind its share comes next, so that they stay mixed
        kind = "stories" if tokens["stories"] <= story_share * sum(tokens.values()) else "facts"
        more_ids, more_weights = encode_rows(tokenizer, list(islice(kinds[kind], _BATCH)))
        tokens[kind] += len(more_ids)
        ids.append(more_ids)
        weights.append(more_weights)
    return np.concatenate(ids), np.concatenate(weights), dict(tokens)


def bpe_sample(pools: Pools, rows: int, seed: int) -> list[str]:
    """Texts to learn merges from. Facts are told of ever new names, lest an entity become one token."""
    texts = [row_text(story.row()) for story in islice(stories(pools.training, f"bpe {seed}", _LEVELS), rows)]
    names, relations = pools.training.names, load_relations()
    for start in range(0, len(names), 100):
        facts = invent_facts(names[start : start + 100], seed + start, relations)
        texts += map(row_text, islice(fact_rows(facts, seed + start), rows * 100 // len(names)))
    return texts


def facts_test(pools: Pools) -> Iterator[dict[str, str]]:
    """Every fact, asked in the phrasing that training keeps from it."""
    for fact in pools.facts:
        kind = f"{fact.relation.kind}-{fact.relation.name}"
        yield {"prompt": fact.test_prompt, "answer": f" {fact.answer}", "kind": kind}


def stories_test(pools: Pools, count: int, seed: int, seen_names: bool = False) -> Iterator[dict[str, str]]:
    """Every turn of `count` stories with unseen names, and of half as many with unseen things and places too.

    With `seen_names` the names are those of training in new stories: the difference shows what is copied.
    """
    if seen_names:
        yield from _turns(pools.training, count, f"test seen {seed}", things="seen")
        return
    yield from _turns(pools.unseen_names, count, f"test {seed}", things="seen")
    yield from _turns(pools.unseen_everything, count // 2, f"test unseen {seed}", things="unseen")


def _turns(
    cast: Cast, count: int, seed: str, things: str, levels: Sequence[Level] = _LEVELS
) -> Iterator[dict[str, str]]:
    for level in dict.fromkeys(levels):
        for story in islice(stories(cast, f"{seed} {level}", [level]), count // len(set(levels))):
            for i, turn in enumerate(story.turns):
                answer = {"prompt": story.prompt(i), "answer": f" {turn.answer}", "kind": turn.kind}
                yield answer | {"level": level, "things": things}
