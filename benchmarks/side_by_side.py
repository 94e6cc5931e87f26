"""Every propagation, and every policy at several thresholds, on the same prompts: `python benchmarks/side_by_side.py`.

Prints two tables in Markdown for each bundled twin: agreement with the full model on the same prefix, mean depth, the
blocks truly skipped, how often a block's weights were read, and rows through the head a token. No wall clock: at this
size it would measure dispatch. Propagations run the Mamba gate at its suggested thresholds; policies run under
`project`, so that what they differ in is when a token leaves. Deterministic on one machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from offramp.engine.engine import Engine
from offramp.engine.load import Checkpoint
from offramp.engine.reply import Generation
from offramp.engine.request import Request
from offramp.evaluation.agreement import agreeing
from offramp.evaluation.metrics import blocks_skipped, mean_depth, weight_reads
from offramp.registry import names
from offramp.zoo.bundled import load
from offramp.zoo.prompts import load_prompts
from offramp.zoo.twins import TWINS

TOKENS = 48
THRESHOLDS = {"never": (0.5,), "always": (0.5,)}
"""Of policies that have none; all others run at the same three."""
LADDER = (0.5, 0.7, 0.9)

Prompts = Sequence[tuple[int, ...]]


@dataclass(frozen=True)
class Bench:
    """One twin with its Mamba gates, and the prompts: the held-out code of the demo."""

    checkpoint: Checkpoint
    engine: Engine
    prompts: Prompts

    @classmethod
    def of(cls, twin: str) -> Bench:
        found = load(twin, "mamba")
        assert found.text is not None
        prompts = [tuple(found.text.encode(p.prompt)) for p in load_prompts() if p.kind == "code"]
        return cls(found, Engine(found.model, found.exits, found.text, max_len=512, tier="fast"), prompts)

    def row(self, name: str, propagation: str, policy: str, thresholds: tuple[float, ...]) -> str:
        """A line of a table: `name`, then the numbers of this setting over all prompts."""
        replies = [
            self.engine.generate(
                Request(prompt, propagation, policy, thresholds, max_tokens=TOKENS, ignore_eos=True)
            )
            for prompt in self.prompts
        ]
        cells = [name, *self._numbers(replies)]
        return f"| {' | '.join(cells)} |"

    def _numbers(self, replies: Sequence[Generation]) -> list[str]:
        model, blocks = self.checkpoint.model, self.checkpoint.model.config.num_blocks
        tokens = sum(len(reply.tokens) for reply in replies)
        pairs = zip(self.prompts, replies, strict=True)
        agreement = sum(agreeing(model, prompt, reply.tokens) for prompt, reply in pairs) / tokens
        heads = sum(reply.stats.head_rows for reply in replies) / tokens
        skipped, reads = blocks_skipped(replies, blocks), weight_reads(replies, blocks)
        return [
            f"{agreement:.1%}",
            f"{mean_depth(replies):.1f}",
            f"{skipped:.0%}",
            f"{reads:.0%}",
            f"{heads:.1f}",
        ]


def table(first: str) -> None:
    print(
        f"\n| {first} | agreement | depth | skipped | reads | head rows a token |\n|---|---|---|---|---|---|"
    )


def main() -> None:
    torch.set_num_threads(1)
    for twin in TWINS:
        bench = Bench.of(twin)
        assert bench.checkpoint.info is not None
        table(f"{twin}: propagation")
        for name in names("offramp.propagation"):
            print(bench.row(name, name, "gate", bench.checkpoint.info.thresholds), flush=True)
        table(f"{twin}: policy, threshold")
        for name in names("offramp.policies"):
            for threshold in THRESHOLDS.get(name, LADDER):
                print(bench.row(f"{name} {threshold}", "project", name, (threshold,)), flush=True)


if __name__ == "__main__":
    main()
