"""transformers' `assistant_early_exit`: the first blocks and the head draft, the whole model judges."""

from __future__ import annotations

from typing import Any

from offramp.bench.contender import Job
from offramp.bench.peers._transformers import Generating


class EarlyExit(Generating):
    """Drafts after our first exit, or a quarter of the blocks."""

    reads_all = False

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        blocks = self.model.config.num_hidden_layers
        self.after = (job.exits_at or (max(1, blocks // 4),))[0]

    def options(self) -> dict[str, Any]:
        return {"assistant_early_exit": self.after}
