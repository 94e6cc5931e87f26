"""What the model writes for its exits to learn from."""

from __future__ import annotations

from dataclasses import dataclass

from offramp.errors import UsageError
from offramp.mixers.base import RUN_LIMIT


@dataclass(frozen=True)
class OnPolicyConfig:
    """text_steps: optimizer steps on plain text before, which make the gates that then decide.

    replies: how many documents' beginnings, of prompt_tokens, are continued for training, by reply_tokens each;
    held out are a quarter as many more, or as many documents as there are.
    temperature: 0 is greedy.   threshold: of all gates (None: what they suggest after the text).
    run_max: how many tokens may leave in a row.
    """

    text_steps: int = 200
    replies: int = 200
    prompt_tokens: int = 32
    reply_tokens: int = 64
    temperature: float = 0.0
    threshold: float | None = None
    run_max: int = 8

    def __post_init__(self) -> None:
        if min(self.text_steps, self.replies, self.prompt_tokens) < 1:
            raise UsageError("text_steps, replies and prompt_tokens must be at least 1")
        if self.reply_tokens < 2:
            raise UsageError(
                "reply_tokens must be at least 2: no gate is asked for the first token of a reply"
            )
        if not 1 <= self.run_max < RUN_LIMIT:
            raise UsageError(f"run_max is {self.run_max}; it must be between 1 and {RUN_LIMIT - 1}")
        if self.temperature < 0:
            raise UsageError(f"a temperature of {self.temperature} is below 0")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UsageError(f"a threshold of {self.threshold} is outside [0, 1]")
