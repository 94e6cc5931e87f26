"""Texts -> what the forecast listens to: prompts, each continued by the model itself.

The model's own text is what exits will see; on other people's text agreement is lower and says less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from offramp.data.documents import CHARACTERS_PER_TOKEN, Encode
from offramp.engine.engine import Engine
from offramp.engine.request import Request
from offramp.errors import DataError
from offramp.models.base import Model

FEWEST = 2
"""Prompts: an interval over fewer says nothing."""
SHORTEST = 2
"""Tokens of a prompt, or of what follows it."""


@dataclass(frozen=True)
class Stretch:
    """Token ids of one text; agreement counts for those from `begin` on. prompt: the number of its prompt."""

    prompt: int
    ids: Sequence[int]
    begin: int

    def __len__(self) -> int:
        return len(self.ids)


def cut_prompts(texts: Sequence[str], encode: Encode, count: int, length: int) -> list[list[int]]:
    """The first `length` ids of `count` texts, evenly spread; of fewer texts several stretches each.

    Raises DataError where that leaves fewer than FEWEST.
    """
    chosen = texts[:: max(1, len(texts) // count)][:count]
    each = -(-count // max(1, len(chosen)))
    found: list[list[int]] = []
    for text in chosen:
        ids = encode(text[: each * length * CHARACTERS_PER_TOKEN])
        found += [ids[at : at + length] for at in range(0, len(ids), length)][:each]
    found = [ids for ids in found if len(ids) >= SHORTEST][:count]
    if len(found) < FEWEST:
        raise DataError(
            f"the data gives {len(found)} prompts of {SHORTEST} tokens or more; a forecast needs at least {FEWEST}, "
            "better 50: give more texts"
        )
    return found


def own_text(
    model: Model, prompts: Sequence[Sequence[int]], new_tokens: int, said: Callable[[int], None] | None = None
) -> list[Stretch]:
    """Each prompt with the model's greedy continuation, of which every token counts; `said` hears how many are done.

    Raises CapacityError where not one sequence fits the memory, DataError where the model says next to nothing.
    """
    length = min(max(map(len, prompts)) + new_tokens, model.config.context_length)
    engine = Engine(model, slots=None, max_len=length, tier="fast", prefix_memory=0)
    requests = [
        Request(
            tuple(ids[: length - 1]),
            policy="never",
            max_tokens=min(new_tokens, length - len(ids[: length - 1])),
        )
        for ids in prompts
    ]
    found: list[Stretch] = []
    for place, reply in engine.generate_each(requests):
        prompt = requests[place].prompt
        found.append(Stretch(place, (*prompt, *reply.tokens), len(prompt)))
        if said:
            said(len(found))
    found = [stretch for stretch in found if len(stretch) > stretch.begin]
    if len(found) < FEWEST:
        raise DataError(
            f"the model says something after {len(found)} of {len(prompts)} prompts only: give it others, or compare "
            "on the texts themselves (--given-text)"
        )
    return found


def given_text(prompts: Sequence[Sequence[int]]) -> list[Stretch]:
    """The prompts as they are; all but the first token count."""
    return [Stretch(i, ids, 1) for i, ids in enumerate(prompts)]
