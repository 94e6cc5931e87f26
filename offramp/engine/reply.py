"""What is answered: token events, the whole reply, and the work behind it."""

from __future__ import annotations

from dataclasses import dataclass, field

from offramp.policies.base import Memory
from offramp.propagation.base import Work


@dataclass
class Stats:
    """Decoding's true work, prompts apart.

    block_tokens: (block, token) pairs computed · block_passes: times a block's weights were read · advances, copies:
    (block, token) pairs where only the state was written, or entries were copied · head_rows, head_passes: rows
    through the vocabulary head, and times it was read, the first token's among them, which the prompt's pass gives ·
    drafts, accepted: tokens that left as drafts, and those the last segment confirmed · work: of each part by its
    name ("blocks.3", "exits.0.gate"; see `Frontier.parts`).
    """

    tokens: int = 0
    block_tokens: int = 0
    block_passes: int = 0
    head_rows: int = 0
    head_passes: int = 0
    drafts: int = 0
    accepted: int = 0
    work: dict[str, Work] = field(default_factory=dict)

    @property
    def advances(self) -> int:
        return self._in_blocks("advance")

    @property
    def copies(self) -> int:
        return self._in_blocks("copy_entries") + self._in_blocks("repeat_entry")

    def _in_blocks(self, verb: str) -> int:
        return sum(work.tokens[verb] for name, work in self.work.items() if name.startswith("blocks."))


@dataclass(frozen=True)
class TokenEvent:
    """One committed token; `token` is -1 on an event that only closes a request whose logits were no numbers, and
    `error` says so.

    text: what became certain with it (may be empty: half a character, the possible beginning of a stop string).
    depth: the blocks behind the choice. gate: the gate's value where an exit chose or drafted it.
    drafted: an exit drafted it and the last segment accepted. logprob: natural log, before filters, after
    temperature and penalties. best: what would have been chosen, where the token was forced; else the token.
    index: 0 for the first generated token. finish: on the last event, one of
    eos, stop, max_tokens, context, forced, nan; that event carries the row's stats.
    """

    token: int
    text: str
    depth: int
    gate: float | None
    drafted: bool
    logprob: float
    best: int
    index: int
    finish: str | None = None
    request: int = 0
    stats: Stats | None = None

    @property
    def error(self) -> str | None:
        """What went wrong, on an event that closes a request for that reason."""
        return not_numbers(self.index) if self.finish == "nan" else None


def not_numbers(tokens: int) -> str:
    """Why a reply ends after so many tokens without one that ends it."""
    return (
        f"the model's logits after {tokens} generated tokens are not numbers, so the reply ends there. Its "
        "weights may overflow in this format: try dtype f32 (--dtype f32)."
    )


@dataclass(frozen=True)
class Generation:
    """The fold of a request's events. `finish` "nan" means the model gave no number: the reply is cut there."""

    tokens: tuple[int, ...]
    text: str
    events: tuple[TokenEvent, ...]
    finish: str
    stats: Stats


@dataclass(frozen=True)
class Choice:
    """A token chosen at one position: by exit number `exit`, or by the last segment (None).

    best: what would have been chosen where the token is forced; else the token itself.
    """

    token: int
    logprob: float
    best: int
    exit: int | None = None
    gate: float | None = None
    memory: Memory = ()
