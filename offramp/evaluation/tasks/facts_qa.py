"""Questions about made-up people, towns, creatures and ships, from memory: the twins learnt these facts."""

from __future__ import annotations

from pathlib import Path

from offramp.evaluation.tasks._twins import TwinsTask


class FactsQA(TwinsTask):
    """What does Plesham play? 480 of the facts the twins saw in training, 30 of each relation."""

    own = Path(__file__).with_suffix(".jsonl")
