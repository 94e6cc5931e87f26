"""Options that several verbs share, each group flattened into a verb's own."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter, Token

from offramp.errors import UsageError
from offramp.registry import names


def _numbers(kind: type[int] | type[float]) -> Any:
    """A converter of "0.3,0.4", or of the option given several times."""

    def convert(_: type[Any], tokens: Sequence[Token]) -> tuple[float, ...]:
        parts = [part.strip() for token in tokens for part in token.value.split(",")]
        return tuple(kind(part) for part in parts if part)

    return convert


def plugins(folder: str) -> str:
    """The names there are, for a help text that no new plug-in has to edit."""
    return ", ".join(names(f"offramp.{folder}"))


def meanings(folder: str) -> str:
    """The first line of each plug-in's class docstring, read from its source: importing it would import torch."""
    lines = (f"- {name}: {_first_line(f'offramp.{folder}.{name}')}" for name in names(f"offramp.{folder}"))
    return "\n".join(lines)


def _first_line(module: str) -> str:
    spec = find_spec(module)
    loader = spec.loader if spec else None
    source = loader.get_source(module) if loader is not None and hasattr(loader, "get_source") else None
    classes = [node for node in ast.parse(source or "").body if isinstance(node, ast.ClassDef)]
    documented = [text for text in map(ast.get_docstring, classes) if text]
    return documented[0].partition("\n")[0] if documented else "a rule of its own."


MOST_BYTES = 1 << 60
"""More than any machine has."""


def _bytes(_: type[Any], tokens: Sequence[Token]) -> int:
    """A converter of 2GB, 512M, 1000000: units are powers of 1,024."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(?:I?B)?", tokens[0].value.upper())
    number, unit = found.groups() if found else ("inf", "")
    size = float(number) * 1024 ** " KMGT".index(unit or " ")
    if size > MOST_BYTES:
        raise ValueError("give a number of bytes, like 2GB or 512MB")
    return int(size)


Size = Annotated[int | None, Parameter(converter=_bytes, n_tokens=1)]
Integers = Annotated[tuple[int, ...] | None, Parameter(converter=_numbers(int), n_tokens=1)]
Floats = Annotated[tuple[float, ...] | None, Parameter(converter=_numbers(float), n_tokens=1)]


Device = Annotated[Literal["cpu", "cuda", "auto"], Parameter(env_var="OFFRAMP_DEVICE")]
Dtype = Annotated[Literal["f32", "bf16", "int8", "int4"], Parameter(env_var="OFFRAMP_DTYPE")]


@Parameter(name="*", group=Group("Where it runs", sort_key=90))
@dataclass(frozen=True)
class Where:
    """Device, number format, threads.

    Parameters
    ----------
    device
        auto is cuda where there is one.
    dtype
        f32; bf16 halves the memory; int8 and int4 quantise the weights, exits' too, on the CPU (what that costs:
        `offramp inspect --quality`). A folder of quantised weights is taken as it is.
    threads
        On the CPU. [default: OFFRAMP_THREADS; else one for a small model, the cores there are for a larger one, less
        one beside a busy process]
    """

    device: Device = "cpu"
    dtype: Dtype = "f32"
    threads: int | None = None

    def __post_init__(self) -> None:
        """Raises UsageError for no count."""
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"--threads is {self.threads}; it must be at least 1.")

    def check_trains(self) -> None:
        """Raises UsageError for weights that only run."""
        if self.dtype not in ("f32", "bf16"):
            raise UsageError(
                f"--dtype {self.dtype} is for running: train with f32 or bf16; what is trained so runs with "
                f"{self.dtype} too."
            )


@Parameter(name="*", group=Group("The reply", sort_key=5))
@dataclass(frozen=True)
class Reply:
    """How long a reply is, and how it is shown.

    Parameters
    ----------
    max_tokens
        Most tokens to generate.
    stop
        A string that ends the reply; may be given several times.
    chat
        Put the prompt into the checkpoint's chat template.
    json
        One JSON object a line on stdout: every token, then the summary.
    tier
        exact (a token's bits depend on its own sequence only; chunks are padded) or fast.
    """

    max_tokens: int = 128
    stop: tuple[str, ...] = ()
    chat: bool = False
    json: bool = False
    tier: Literal["exact", "fast"] = "exact"


@Parameter(name="*", group=Group("Leaving early", sort_key=10))
@dataclass(frozen=True)
class Leaving:
    """Which exits, when a token leaves, and what becomes of it.

    Parameters
    ----------
    exits
        A set in MODEL/exits, a folder, a hub id owner/name, "none", or "untrained" (no gates: needs a --policy that
        asks none).
    exits_at
        Only the exits after these blocks: 4,8. Untrained ones sit there.
    run_max
        Most tokens that may leave in a row.
    drafts
        How many tokens may leave before a deep pass takes them all: a count, or auto: what is fastest here, from
        timings measured once and kept. It changes no text under verify, and no reply at all elsewhere.
    risk
        Leave as `offramp calibrate` certified for at most this expected loss: its propagation (the one named, if not
        verify), thresholds and run_max.
    metric
        Of the certificate: agreement, consistency, exact_match, f1.
    confidence
        The least that the certificate may have.
    """

    exits: str | None = None
    exits_at: Integers = None
    propagation: Annotated[
        str, Parameter(help=f"What deeper blocks get of a token that left: {plugins('propagation')}.")
    ] = "verify"
    policy: Annotated[str, Parameter(help=f"When a token leaves: {plugins('policies')}.")] = "gate"
    threshold: Annotated[
        Floats,
        Parameter(
            help="One number in [0, 1], or one for each exit: 0.3,0.4. A token leaves where the policy's score is "
            "greater, so 1 never leaves. Under verify it may be left out: then what the exits suggest for gates, else "
            "the policy's own; other propagations change the text and need it, or --risk. "
            f"The score, by policy:\n\n{meanings('policies')}"
        ),
    ] = None
    run_max: int = 8
    drafts: Literal["auto"] | int = "auto"
    risk: float | None = None
    metric: Literal["agreement", "consistency", "exact_match", "f1"] = "agreement"
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Raises UsageError for options that do not go together."""
        if self.risk is not None and self.threshold is not None:
            raise UsageError(
                "--risk takes the thresholds that were calibrated; leave out --threshold, or --risk."
            )


@Parameter(name="*", group=Group("Choosing tokens", sort_key=20))
@dataclass(frozen=True)
class Choosing:
    """Sampling.

    Parameters
    ----------
    temperature
        0 is greedy.
    top_k
        Only the k likeliest tokens; 0 is off.
    top_p
        Only the likeliest tokens that make up this share; 1 is off.
    min_p
        Only tokens at least so likely as this share of the likeliest; 0 is off.
    seed
        The same seed gives the same text.
    repetition_penalty
        Above 1 makes recent tokens less likely; 1 is off.
    penalty_window
        How many recent tokens it looks at.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    repetition_penalty: float = 1.0
    penalty_window: int = 64


@Parameter(name="*", group=Group("Many prompts", sort_key=7))
@dataclass(frozen=True)
class Many:
    """Prompts from a file, replies into another.

    Parameters
    ----------
    input
        One JSON object a line: "prompt" (text), "tokens" (ids) or "messages" (a chat); if you like "id", and
        max_tokens, stop, or any option of choosing tokens (top_k, ...) for this line alone.
    output
        One JSON object a line, in the order of the input: index, id, text, tokens, finish, depth (the mean), or an
        error; and a key by which the same command knows what it need not do again: after an interruption it goes on
        where the file ends. With other prompts or settings it does not touch the file.
    slots
        Prompts running at a time. [default: as many as fit --memory, at most 16]
    memory
        What their state may take, like 2GB. [default: half of what is free]
    max_len
        Tokens of a prompt and its reply together. [default: the model's context, at most 4,096]
    """

    input: Path | None = None
    output: Path | None = None
    slots: int | None = None
    memory: Size = None
    max_len: int | None = None

    def check(self, prompt: str | None, json: bool) -> None:
        """Raises UsageError for options that do not go together."""
        if self.input is None:
            given = [name for name, value in vars(self).items() if value is not None]
            if given:
                raise UsageError(
                    f"--{given[0].replace('_', '-')} belongs to many prompts: give --input FILE."
                )
        elif self.max_len is not None and self.max_len < 2:
            raise UsageError(f"max_len is {self.max_len}; a prompt and its reply take at least 2 tokens.")
        elif self.output is None:
            raise UsageError("--input needs --output FILE: where the replies go.")
        elif prompt is not None:
            raise UsageError("a prompt and --input: give one of the two.")
        elif json:
            raise UsageError(
                "--json shows one reply; with --input every reply is a line of JSON in --output."
            )


def prompt_from(given: str | None) -> str:
    """The prompt given, or stdin where it is `-` or missing; one final line break there is the shell's own.

    Raises UsageError for an unknown option (cyclopts takes it for a prompt), an empty prompt, one that is no
    UTF-8, and for waiting at a terminal.
    """
    if given is not None and given.startswith("-") and given != "-" and " " not in given:
        raise UsageError(f"unknown option {given} (a prompt that begins with a hyphen can come from stdin).")
    if given is None and sys.stdin.isatty():
        raise UsageError("no prompt: give one after MODEL, or send it to stdin.")
    prompt = given if given not in (None, "-") else _stdin().removesuffix("\n")
    if not prompt:
        raise UsageError("the prompt is empty; give at least one character.")
    return prompt


def _stdin() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"the prompt from stdin is not {error.encoding.upper()}: {error.reason}.") from error
