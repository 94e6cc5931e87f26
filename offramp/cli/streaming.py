"""A generation as it arrives: shaded text or JSON lines on stdout, the summary on stderr."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

from rich.console import Console

from offramp.cli.shading import legend, painted
from offramp.engine.engine import fold
from offramp.engine.reply import Generation, TokenEvent
from offramp.engine.resident import Resident, resident
from offramp.evaluation.metrics import accepted_share, blocks_skipped, drafted_share, mean_depth, weight_reads


@dataclass(frozen=True)
class Summary:
    """What one generation cost. The shares are those of `evaluation.metrics`; memory: None where nobody tells."""

    tokens: int
    finish: str
    num_blocks: int
    mean_depth: float
    drafted: float
    accepted: float | None
    blocks_skipped: float
    weight_reads: float
    seconds: float
    tokens_per_second: float
    tier: str
    memory: Resident | None

    @classmethod
    def of(cls, generation: Generation, num_blocks: int, seconds: float, tier: str) -> Summary:
        return cls(
            tokens=len(generation.tokens),
            finish=generation.finish,
            num_blocks=num_blocks,
            mean_depth=mean_depth([generation]),
            drafted=drafted_share([generation]),
            accepted=accepted_share([generation]),
            blocks_skipped=blocks_skipped([generation], num_blocks),
            weight_reads=weight_reads([generation], num_blocks),
            seconds=seconds,
            tokens_per_second=len(generation.tokens) / max(seconds, 1e-9),
            tier=tier,
            memory=resident(),
        )

    def line(self) -> str:
        """One line for people."""
        drafts = "" if self.accepted is None else f"drafts accepted {self.accepted:.0%} · "
        memory = "" if self.memory is None else f" · {self.memory.line()}"
        return (
            f"{self.tokens} tokens ({self.finish}) · mean depth {self.mean_depth:.1f} of {self.num_blocks} · "
            f"drafted {self.drafted:.0%} · {drafts}blocks skipped {self.blocks_skipped:.0%} · "
            f"weight reads {self.weight_reads:.0%} · {self.tokens_per_second:.1f} tokens/s · {self.tier} tier{memory}"
        )


class Display(Protocol):
    """Where a generation is shown."""

    def token(self, event: TokenEvent) -> None: ...

    def end(self, summary: Summary) -> None: ...


class ShadedText:
    """Text on `out`, each token shaded by its depth; what else there is to say on `err`."""

    def __init__(self, out: Console, err: Console, depths: Iterable[int], num_blocks: int) -> None:
        self.out, self.err = out, err
        self.depths, self.num_blocks = tuple(depths), num_blocks

    def token(self, event: TokenEvent) -> None:
        self.out.file.write(painted(event.text, event.depth, self.num_blocks, self.out))
        self.out.file.flush()

    def end(self, summary: Summary) -> None:
        self.out.file.write("\n")
        self.out.file.flush()
        if self.depths:
            self.err.print(legend(self.depths, self.num_blocks), soft_wrap=True)
        self.err.print(summary.line(), highlight=False, soft_wrap=True)


class JsonLines:
    """One JSON object a line: every token, then the summary. In ASCII, which moves no terminal's cursor."""

    def __init__(self, out: Console) -> None:
        self.out = out

    def token(self, event: TokenEvent) -> None:
        shown = {field.name: getattr(event, field.name) for field in fields(event) if field.name != "stats"}
        self._write({"event": "token", **shown})

    def end(self, summary: Summary) -> None:
        self._write({"event": "end", **asdict(summary)})

    def _write(self, item: dict[str, Any]) -> None:
        self.out.file.write(json.dumps(item) + "\n")
        self.out.file.flush()


def show(events: Iterable[TokenEvent], display: Display, num_blocks: int, tier: str) -> Summary:
    """Hand every event to the display as it comes, and the summary when they end."""
    started, seen = time.perf_counter(), []
    for event in events:
        display.token(event)
        seen.append(event)
    summary = Summary.of(fold(seen), num_blocks, time.perf_counter() - started, tier)
    display.end(summary)
    return summary
