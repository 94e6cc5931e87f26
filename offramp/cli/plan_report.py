"""A forecast as tables of 80 columns; the first line is the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from offramp.cli.harmless import harmless
from offramp.forecast.agreement import LAST_BLOCK
from offramp.forecast.outlook import Gain, Outlook
from offramp.forecast.plan import LOSSLESS, Assumed, Forecast, Passes
from offramp.forecast.prices import Price
from offramp.forecast.training import TrainingCost
from offramp.forecast.verdict import WORTH, Verdict


@dataclass(frozen=True)
class Facts:
    """What the forecast is about. prompts, tokens: looked at; 0 where the agreement is stated."""

    model: str
    family: str
    blocks: int
    parameters: int
    dtype: str
    machine: str
    described: bool
    context: int
    prompts: int
    tokens: int


@dataclass(frozen=True)
class Report:
    """Everything that is shown; `forecast` is None where only prices were asked for, `training` without data."""

    facts: Facts
    assumed: Assumed
    forecast: Forecast | None
    training: TrainingCost | None
    prices: tuple[Price, ...]


CHUNK = 4
"""Tokens of the chunk whose time is shown."""


def show(report: Report) -> None:
    """All of it on stdout."""
    console = Console(highlight=False, markup=False)
    if report.forecast is None:
        console.print(_about(report.facts))
    else:
        _forecast(console, report, report.forecast)
    if report.prices:
        console.print(_prices(report.prices))


def _forecast(console: Console, report: Report, seen: Forecast) -> None:
    facts, best = report.facts, seen.verdict.exact
    for line in _verdict(seen.verdict, facts):
        console.print(line)
    console.print()
    console.print(_about(facts))
    console.print(_exits(seen, facts))
    stated = not facts.prompts
    mine = [item for item in seen.outlooks if (item.after, item.bridge) == (best.after, best.bridge)]
    console.print(_by_agreement(seen) if stated else _by_propagation(mine, facts))
    console.print(_passes(seen.passes))
    console.print(_assumed(report.assumed))
    if report.training:
        console.print()
        console.print(_training(report.training, report.assumed))


# ---- words


def _verdict(found: Verdict, facts: Facts) -> Iterator[str]:
    best, gain = found.exact, found.exact.best
    where = f"an exit after {best.after} of {facts.blocks} blocks{_read_by(best.bridge)}"
    if not facts.prompts:
        where += f" that agrees in {best.agreement:.0%}"
    if found.reason:
        yield harmless(
            f"not worth it here: {best.propagation} is expected to give {gain.expected:.2f} times the tokens a second "
            f"at best ({where}, batch {gain.rows}); below {WORTH} is not worth it."
        )
        yield harmless(f"Why: {found.reason}.")
    else:
        yield (
            f"worth trying: {best.propagation} is expected to give {gain.expected:.2f} times the tokens a second at "
            f"batch {gain.rows}, with {where}; the text stays the full model's."
        )
        yield _batches(best)
    if found.lossy:
        yield _lossy(found.lossy)


def _batches(best: Outlook) -> str:
    gaining = [str(gain.rows) for gain in best.gains if gain.expected >= WORTH]
    if len(gaining) == len(best.gains):
        return f"It gains at every batch looked at ({', '.join(gaining)})."
    return f"It gains at batch {', '.join(gaining)}; at others less than {WORTH}."


def _lossy(found: Outlook) -> str:
    return (
        f"If the text may change: {found.propagation} {found.best.expected:.2f} at batch {found.best.rows} (after "
        f"{found.after}{_read_by(found.bridge)}), where about {found.changed:.0%} of the tokens or more would not be "
        "the full model's."
    )


def _read_by(bridge: str) -> str:
    return " through the last block" if bridge == LAST_BLOCK else ""


def _about(facts: Facts) -> str:
    deep = f", {facts.context:,} tokens into a sequence" if facts.described else ""
    seen = f" · {facts.prompts} prompts, {facts.tokens:,} tokens" if facts.prompts else ""
    size = (
        f"{facts.parameters / 1e6:,.1f} M" if facts.parameters < 1e9 else f"{facts.parameters / 1e9:,.2f} G"
    )
    return harmless(
        f"{facts.model} · {facts.blocks} blocks, {size} parameters, {facts.dtype}{seen} · on {facts.machine}{deep}"
    )


def _assumed(assumed: Assumed) -> str:
    gate, skill = assumed.gate, assumed.skill
    width = f"of width {gate.bottleneck}" if gate.bottleneck else "of full width"
    return (
        f"expected: with a {gate.gate} gate {width} that finds {skill.recall:.0%} of the tokens at which the exit "
        f"agrees and is right in {skill.precision:.0%} of what it lets leave; verify without a gate, every token "
        "drafted, where that is better (*). ideal: a gate that knows, an upper bound. Nobody knows the gate before "
        "it is trained."
    )


def _training(cost: TrainingCost, assumed: Assumed) -> str:
    where = ", ".join(map(str, cost.after))
    long = "unknown time" if cost.seconds is None else f"about {_time(cost.seconds)}"
    memory = (
        "more memory than is free"
        if cost.peak_bytes is None
        else f"{cost.peak_bytes / 2**30:.2f} GiB of memory"
    )
    return (
        f"training {assumed.gate.gate} gates after {where} on this machine: {cost.steps:,} steps, {cost.tokens:,} "
        f"tokens, {long}, {memory}."
    )


def _time(seconds: float) -> str:
    """In the unit that reads best."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


# ---- tables


def _table(title: str, *names: str, left: int = 1) -> Table:
    """The first columns are words, the others numbers."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.title_justify = "left"
    for i, name in enumerate(names):
        table.add_column(name, justify="left" if i < left else "right", overflow="fold")
    return table


def _exits(seen: Forecast, facts: Facts) -> Table:
    rows = seen.of(LOSSLESS)[0].gains[0].rows
    many = ("bound", f"verify\nbatch {rows}")
    table = _table(
        "\nexits",
        "after",
        "read",
        "agreement",
        "bytes\nabove",
        "bound\n1 row",
        "many\nrows",
        "with\nheads",
        many[1],
        left=2,
    )
    for exit, outlook in zip(seen.exits, seen.of(LOSSLESS), strict=True):
        share = exit.agreement
        interval = f" ({share.low:.2f}-{share.high:.2f})" if facts.prompts else ""
        table.add_row(
            str(exit.after),
            "last block" if exit.bridge == LAST_BLOCK else "head",
            f"{share.value:.2f}{interval}",
            f"{exit.above:.0%}",
            f"{exit.bound_one:.2f}",
            f"{exit.bound_many:.2f}",
            f"{exit.bound_counted:.2f}",
            _gain(outlook.gains[0]),
        )
    measured = "agreement: with the full model's token, 95 % interval over prompts\n"
    table.caption = (
        measured * bool(facts.prompts)
        + "bounds: of a machine that only waits for weights; with heads: gate and head counted"
    )
    table.caption_justify = "left"
    return table


def _by_propagation(mine: Sequence[Outlook], facts: Facts) -> Table:
    first = mine[0]
    title = f"\ntokens a second over no exits, exit after {first.after}{_read_by(first.bridge)}"
    table = _gains(title, first, "changed")
    for item in sorted(mine, key=lambda item: item.propagation != LOSSLESS):
        changed = "none" if item.propagation == LOSSLESS else f">= {item.changed:.0%}"
        table.add_row(item.propagation, *map(_gain, item.gains), changed)
        table.add_row("  ideal", *(f"{gain.most:.2f}" for gain in item.gains), "", style="dim")
    table.caption = "changed: tokens that are not the full model's; what inexact state adds is not in it"
    table.caption_justify = "left"
    return table


def _by_agreement(seen: Forecast) -> Table:
    mine = seen.of(LOSSLESS)
    table = _gains(
        "\nverify: tokens a second over no exits", mine[0], f"ideal\nbatch {mine[0].gains[0].rows}"
    )
    for exit, item in zip(seen.exits, mine, strict=True):
        name = f"after {exit.after}, agreement {exit.agreement.value:.2f}"
        table.add_row(name, *map(_gain, item.gains), f"{item.gains[0].most:.2f}")
    return table


def _passes(found: Sequence[Passes]) -> Table:
    table = _table("\nwhat passes take, milliseconds", "rows", *(str(item.rows) for item in found))
    for name, seconds in (
        ("without exits", lambda item: item.plain),
        ("to the exit, with its gate", lambda item: item.timings.shallow.seconds(item.rows)),
        ("a draft", lambda item: item.timings.draft.seconds(item.rows)),
        ("the rest, a token each", lambda item: item.timings.deep.seconds(item.rows)),
        (f"the rest, {CHUNK} tokens each", lambda item: item.timings.deep.seconds(CHUNK * item.rows)),
    ):
        table.add_row(name, *(f"{1000 * seconds(item):.3g}" for item in found))
    return table


def _gains(title: str, like: Outlook, last: str) -> Table:
    return _table(title, "batch", *(str(gain.rows) for gain in like.gains), last)


def _gain(gain: Gain) -> str:
    return f"{gain.expected:.2f}" + ("" if gain.gated else "*")


def _prices(found: Sequence[Price]) -> Table:
    table = _table(
        "\nprices, of one token of one row", "", "parameters", "weights", "operations\nof a block", "us"
    )
    for price in found:
        taken = "-" if price.microseconds is None else f"{price.microseconds:,.1f}"
        table.add_row(
            price.name, f"{price.parameters:,}", f"{price.weights:,}", f"{price.flops_share:.1%}", taken
        )
    table.caption = "weights: bytes read; a bridge last_block costs a block"
    table.caption_justify = "left"
    return table
