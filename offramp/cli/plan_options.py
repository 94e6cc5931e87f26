"""The options of `offramp plan`: what is looked at, what is assumed, and on which machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Group, Parameter, Token

from offramp.cli.options import Floats, Integers, plugins
from offramp.cli.ranges import within
from offramp.errors import UsageError

MOST_BATCH, MOST_BATCHES, MOST_AGREEMENTS = 256, 16, 16
MOST_PROMPTS, MOST_TOKENS = 10_000, 4096


def _rate(_: type[Any], tokens: Sequence[Token]) -> float:
    """A converter of 3350GB/s, 990T, 80e9: units are powers of 1,000."""
    pattern = r"(\d+(?:\.\d+)?(?:E\d{1,2})?) ?([KMGTP]?)(?:B(?:/S)?|FLOPS?(?:/S)?|/S)?"
    found = re.fullmatch(pattern, tokens[0].value.upper())
    if not found or not float(found[1]):
        raise ValueError("give an amount a second, like 3350GB/s or 990T")
    return float(found[1]) * 1000.0 ** " KMGTP".index(found[2] or " ")


Rate = Annotated[float | None, Parameter(converter=_rate, n_tokens=1)]


@Parameter(name="*", group=Group("What is looked at", sort_key=10))
@dataclass(frozen=True)
class Look:
    """Prompts, exits, rows.

    Parameters
    ----------
    prompts
        How many, spread evenly over the data.
    prompt_tokens
        Of each prompt, at most.
    new_tokens
        That the model continues each prompt with, greedily: exits are compared on its own text.
    given_text
        Compare on the prompts themselves instead: quicker, but not what a model that writes will see.
    agreement
        Instead of --data: how often the exit would agree, say 0.6,0.7,0.8. With a described device no weights are
        read, so a folder with config.json will do.
    exits_at
        After these blocks: 4,8. [default: every eighth of them; with --agreement a quarter]
    batches
        Rows that run together. [default: 1,2,4,8,16,32]
    """

    prompts: int = 50
    prompt_tokens: int = 64
    new_tokens: int = 64
    given_text: bool = False
    agreement: Floats = None
    exits_at: Integers = None
    batches: Integers = None

    def check(self) -> None:
        """Raises UsageError for what cannot be looked at."""
        within("prompts", self.prompts, 2, MOST_PROMPTS)
        within("prompt-tokens", self.prompt_tokens, 2, MOST_TOKENS)
        within("new-tokens", self.new_tokens, 1, MOST_TOKENS)
        for rows in self.batches or ():
            within("batches", rows, 1, MOST_BATCH)
        for share in self.agreement or ():
            within("agreement", share, 0, 1)
        for name, given, most in (
            ("batches", self.batches, MOST_BATCHES),
            ("agreement", self.agreement, MOST_AGREEMENTS),
        ):
            if given is not None and not 0 < len(set(given)) <= most:
                raise UsageError(f"--{name} takes 1 to {most} numbers; got {len(set(given))}.")


@Parameter(name="*", group=Group("What is assumed", sort_key=20))
@dataclass(frozen=True)
class Suppose:
    """The gate that would be trained.

    Parameters
    ----------
    bottleneck
        Its inner width; 0 is the model's own.
    gate_recall
        Share of the tokens at which the exit agrees that it lets leave.
    gate_precision
        Share of the tokens it lets leave that are right.
    """

    gate: Annotated[str, Parameter(help=f"What decides: {plugins('exits.gates')}.")] = "mamba"
    bottleneck: int = 64
    gate_recall: float = 0.7
    gate_precision: float = 0.85

    def check(self) -> None:
        """Raises UsageError for shares that are none."""
        within("gate-recall", self.gate_recall, 0, 1)
        within("gate-precision", self.gate_precision, 0, 1)


@Parameter(name="*", group=Group("Another machine", sort_key=80))
@dataclass(frozen=True)
class Machine:
    """A device that is not at hand, instead of measuring this one.

    Parameters
    ----------
    device_bandwidth
        Of its memory, as the datasheet says: 3350GB/s. 80 % of it is counted.
    device_flops
        Operations a second in the model's number format: 990T. 60 % of them are counted.
    overhead_us
        Microseconds to start a pass.
    layer_us
        Microseconds to start a block.
    context
        Tokens before the one that is counted: attention's cost grows with them.
    """

    device_bandwidth: Rate = None
    device_flops: Rate = None
    overhead_us: float = 25.0
    layer_us: float = 6.0
    context: int = 512

    @property
    def described(self) -> bool:
        return self.device_bandwidth is not None

    def check(self) -> None:
        """Raises UsageError for half a device."""
        if (self.device_bandwidth is None) != (self.device_flops is None):
            raise UsageError(
                "a device is described by both --device-bandwidth 3350GB/s and --device-flops 990T."
            )
        within("context", self.context, 0, 1 << 20)
