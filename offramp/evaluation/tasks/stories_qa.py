"""Questions about short made-up stories, in the shape of CoQA: the twins learnt to answer such."""

from __future__ import annotations

from pathlib import Path

from offramp.evaluation.tasks._twins import TwinsTask


class StoriesQA(TwinsTask):
    """Who has the lantern? Of 480 stories, each of names the twins never saw, one question at random."""

    own = Path(__file__).with_suffix(".jsonl")
