"""The options of `offramp calibrate`: what is promised, and for which replies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from offramp.cli.options import Integers, plugins


@Parameter(name="*", group=Group("The promise", sort_key=1))
@dataclass(frozen=True)
class Promise:
    """What shall hold for new documents from the same source.

    Parameters
    ----------
    risk
        The most that the loss may be on average, above 0 and below 1.
    confidence
        How probable it shall be that this is so.
    metric
        agreement: the share of tokens that the full model would not have chosen. consistency: 1 - ROUGE-L with the full
        model's reply. exact_match, f1: what of the full model's score is lost (these need --answer-field).
    steps
        How many thresholds are tried, from the safest on.
    teacher_forced
        Agreement under defer from one pass over the full model's own text, not from free runs; the certificate
        says so.
    """

    risk: float = 0.02
    confidence: float = 0.95
    metric: Literal["agreement", "consistency", "exact_match", "f1"] = "agreement"
    steps: int = 20
    teacher_forced: Annotated[bool, Parameter(negative=())] = False


@Parameter(name="*", group=Group("The replies", sort_key=5))
@dataclass(frozen=True)
class Replies:
    """What it holds for. A request that differs is refused.

    Parameters
    ----------
    exits
        A set in MODEL/exits, or a folder.
    exits_at
        Only the exits after these blocks: 4,8.
    run_max
        Most tokens that may leave in a row.
    max_tokens
        Longest reply.
    prompt_tokens
        Longest prompt. Of a text without answer at most its first half is the prompt.
    stop
        A string that ends a reply; may be given several times.
    """

    exits: str | None = None
    exits_at: Integers = None
    propagation: Annotated[
        str, Parameter(help=f"What deeper blocks get of a token that left: {plugins('propagation')}.")
    ] = "defer"
    policy: Annotated[str, Parameter(help=f"When a token leaves: {plugins('policies')}.")] = "gate"
    run_max: int = 8
    max_tokens: int = 128
    prompt_tokens: int = 256
    stop: tuple[str, ...] = ()


@Parameter(name="*", group=Group("The run", sort_key=30))
@dataclass(frozen=True)
class Run:
    """Where it is kept.

    Parameters
    ----------
    answer_field
        The field that holds the right answer; then --field names that of the prompt.
    split_seed
        Decides which documents tune, calibrate and test.
    keep
        A folder for what was found out, so that the same command goes on after an interruption. [default: offramp's
        cache]
    replace
        Drop an earlier certificate of the same on other documents or steps. Keeping the better one of two voids both.
    losses
        Write every document's loss at every step into this JSON file, also of the steps behind the first that fails.
    json
        One JSON object on stdout: certificate, gates' reliability, losses.
    """

    answer_field: str | None = None
    split_seed: int = 0
    keep: Path | None = None
    replace: Annotated[bool, Parameter(negative=())] = False
    losses: Path | None = None
    json: Annotated[bool, Parameter(negative=())] = False
