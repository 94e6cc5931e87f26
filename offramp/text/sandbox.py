"""The jinja2 sandbox that chat templates run in: no way to Python behind it, and bounds to what it makes.

Bounded: what one operator makes (`*`, `**`, `+`, `%`), all that `range` gives in one rendering together, and
the length of what is written. Not bounded: the time that loops over long texts within each other take, and
the memory of a text that a template doubles again and again with `~`, `{% set %}` or a padding filter. Such
a template can hang or exhaust the process that renders it, and do nothing worse.
"""

from __future__ import annotations

import re
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

LENGTH = 1_000_000
"""Characters of a text, items of a list."""
BITS = 4096
"""Of a whole number."""
STEPS = 100_000
"""Numbers that all ranges of one rendering give together."""

_WIDE = re.compile(r"\d{5}|%[^a-zA-Z%]*\*")
"""A width that `%` would fill a text to: written out, or to be taken from an argument."""


class Sandbox(ImmutableSandboxedEnvironment):
    """One for each rendering: it counts what `range` gives. Raises SecurityError where a bound is met."""

    intercepted_binops = frozenset(("*", "**", "+", "%"))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.steps = STEPS
        self.globals["range"] = self._range

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if _too_large(operator, left, right):
            raise SecurityError(f"the result of {operator!r} would be too large")
        return super().call_binop(context, operator, left, right)

    def _range(self, *ends: int) -> range:
        numbers = range(*ends)
        self.steps -= len(numbers)
        if self.steps < 0:
            raise SecurityError(f"its ranges give more than {STEPS:,} numbers")
        return numbers


def _too_large(operator: str, left: Any, right: Any) -> bool:
    """Whether the result would be beyond the bounds."""
    match operator, left, right:
        case "**", int(), int():
            return left.bit_length() * right > BITS
        case "*", int(), int():
            return left.bit_length() + right.bit_length() > BITS
        case "*", (str() | list() | tuple()), int():
            return len(left) * right > LENGTH
        case "*", int(), (str() | list() | tuple()):
            return left * len(right) > LENGTH
        case "+", (str() | list() | tuple()), (str() | list() | tuple()):
            return len(left) + len(right) > LENGTH
        case "%", str(), _:
            return _WIDE.search(left) is not None
    return False
