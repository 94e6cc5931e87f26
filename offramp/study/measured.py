"""An evaluation made small: of every prompt each measure's two numbers, and a few replies token by token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from offramp.errors import DataError
from offramp.evaluation.bootstrap import Sample
from offramp.evaluation.evaluate import Evaluation
from offramp.evaluation.measures import depth_histogram, measures_of, token_records
from offramp.study.inputs import kind_of

RECORDS = 3
"""Replies that are kept token by token, the longest of each kind of prompt."""

Chosen = Callable[[str], bool]
"""Whether a prompt's id is to be counted."""


def compact(evaluation: Evaluation) -> dict[str, Any]:
    """As JSON."""
    by_name = {
        measure.name: [measure.of(item, evaluation.num_blocks) for item in evaluation.items]
        for measure in measures_of(evaluation)
    }
    ordered = sorted(evaluation.items, key=lambda item: len(item.reply.tokens))
    shown = {kind_of(item.reply.prompt): item for item in ordered}
    records = {
        item.reply.prompt: [asdict(record) for record in token_records(item)]
        for item in list(shown.values())[:RECORDS]
    }
    return {
        "blocks": evaluation.num_blocks,
        "prompts": [item.reply.prompt for item in evaluation.items],
        "looping": [item.reply.prompt for item in evaluation.items if item.looping],
        "measures": by_name,
        "depths": {str(depth): count for depth, count in depth_histogram(evaluation).items()},
        "records": records,
    }


def sample(seeds: Sequence[Mapping[str, Any]], name: str, chosen: Chosen | None = None) -> Sample:
    """A measure over training seeds and prompts, for `evaluation.bootstrap`. seeds: what `compact` gave for each."""
    prompts = seeds[0]["prompts"]
    if any(one["prompts"] != prompts for one in seeds):
        raise DataError("seeds of one arm were asked other prompts")
    kept = [i for i, prompt in enumerate(prompts) if chosen is None or chosen(prompt)]
    missing = [None] * len(prompts)
    tables = [one["measures"].get(name, missing) for one in seeds]
    return Sample.of([[_pair(table[i]) for i in kept] for table in tables])


def _pair(raw: Sequence[float] | None) -> tuple[float, float] | None:
    return None if raw is None else (float(raw[0]), float(raw[1]))
