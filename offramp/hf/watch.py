"""Final tokens as they come, shown to criteria and streamer one by one, as `generate` would show them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from offramp.engine.engine import Engine
from offramp.engine.reply import TokenEvent
from offramp.errors import OfframpError, UsageError
from offramp.hf.rows import Row


@dataclass(frozen=True)
class Watch:
    """rows[i] is the engine's request number i. Raises UsageError for a streamer with several rows."""

    rows: Sequence[Row]
    criteria: Any
    streamer: Any
    on_event: Callable[[TokenEvent], None] | None
    device: torch.device

    def __post_init__(self) -> None:
        if self.streamer is not None and len(self.rows) > 1:
            raise UsageError("a streamer is for one prompt: rows of a batch end at their own pace.")

    def run(self, engine: Engine) -> None:
        """Until every row is done. Raises OfframpError where the model gives no numbers."""
        while not all(row.done for row in self.rows):
            for event in engine.step():
                row = self.rows[event.request]
                if row.done:
                    continue  # `verify` may give several tokens at once; those after an end are dropped
                self._take(event, row)
                if row.done:
                    engine.cancel(event.request)
        if self.streamer is not None:
            self.streamer.end()

    def _take(self, event: TokenEvent, row: Row) -> None:
        if event.finish == "nan":
            raise OfframpError(
                f"the model's logits after {len(row.said)} tokens are not numbers; its weights may overflow in this "
                "format: try float32."
            )
        row.said.append(event.token)
        ids_1T = row.ids(self.device)
        row.done = bool(self.criteria(ids_1T, None)[0]) or event.finish is not None
        if self.streamer is not None:
            self.streamer.put(ids_1T[0, -1:].cpu())
        if self.on_event is not None:
            self.on_event(event)
