"""A bench as text: one line an engine, then what its words mean; ours by number of rows where that was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from offramp.bench.bound import Bound
from offramp.bench.ours import AGAIN, FULL, Mode
from offramp.bench.ratio import Ratio
from offramp.bench.report import Conditions, Report
from offramp.bench.results import Alike, Line

HEAD = (
    "engine",
    "tokens/s",
    "to full depth [95 %]",
    "not slower",
    "of bandwidth",
    "first token",
    "memory",
    "text",
)
NOTES = (
    "tokens/s: after the first token, median over rounds. not slower: the interval lies above 1 - max(2 %, half the "
    "width of the control's).",
    f"{AGAIN}: full depth itself in another process, the control.",
    "first token: the prompt's time, and in brackets how many times as fast as full depth's.",
    "of bandwidth: weights read a second over what memory could be read with just then, by as many threads.",
    "memory: the most that loading and running took, beyond the libraries. text: equal to full depth's, or how far.",
)


def as_text(report: Report) -> str:
    return "".join(f"{line.rstrip()}\n" for line in _lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield _title(report.conditions)
    yield ""
    yield from _table([HEAD, *(_cells(line) for line in report.lines if not line.out)])
    yield from (f"not run: {line.engine}: {line.out}" for line in report.lines if line.out)
    for line in report.lines:
        if line.bound is not None and line.reached is not None:
            yield _bound(line.engine, line.bound, line.reached)
    if report.batches:
        yield ""
        yield from _batches({1: report.lines, **report.batches})
    yield ""
    yield from _steady(report.lines)
    yield from (f"note: {note}" for note in NOTES)


def _title(said: Conditions) -> str:
    labels = f" ({', '.join(said.labels)})" if said.labels else ""
    return (
        f"{said.model}{labels} · {said.dtype} · {said.threads} threads · {said.rounds} rounds of {said.max_tokens} "
        f"tokens · {said.machine.get('processor', '')}, kernels {said.machine.get('kernels', 'none')}"
    )


def _cells(line: Line) -> tuple[str, ...]:
    assert line.rate is not None
    return (
        line.engine,
        f"{line.rate:.1f}",
        _ratio(line.ratio) if line.engine != FULL else "1",
        {None: "", True: "yes", False: "no"}[line.not_slower] if line.engine != FULL else "",
        f"{line.share:.0%}" if line.share is not None else "",
        _first(line),
        f"{line.memory / 2**20:,.0f} MiB" if line.memory is not None else "",
        _text(line.alike) if line.alike and line.engine != FULL else "",
    )


def _ratio(found: Ratio | None) -> str:
    if found is None:
        return ""
    inside = f" [{found.low:.2f}, {found.high:.2f}]" if found.low is not None else " [too few rounds]"
    return f"{found.value:.2f}{inside}"


def _first(line: Line) -> str:
    if line.first is None:
        return ""
    times = f" ({line.first_ratio.value:.2f})" if line.first_ratio and line.engine != FULL else ""
    return f"{line.first * 1000:.1f} ms{times}"


def _text(found: Alike) -> str:
    return "equal" if found.rounds == 1 else f"{found.until:.0f} of {found.compared:.0f}"


def _bound(engine: str, found: Bound, reached: float) -> str:
    deep = ", ".join(f"{drafts + 1}: {share:.2f}" for drafts, share in sorted(found.deep.items()))
    return (
        f"{engine}: reached {reached:.2f} of the bound {found.gain:.2f} ({found.drafts} drafts, policy {found.policy}; "
        f"drafts right {found.accept:.0%}, w {found.below:.2f}; in plain turns: shallow {found.shallow:.2f}, draft "
        f"{found.draft:.2f}, deep by tokens {deep})"
    )


def _steady(lines: Sequence[Line]) -> Iterator[str]:
    """The ratios without rounds that loop, where there are both."""
    found = [f"{line.engine} {_ratio(line.steady)}" for line in lines if line.steady and line.engine != FULL]
    if found:
        yield f"note: in some rounds full depth's text loops; without those: {', '.join(found)}."


def _batches(by_rows: Mapping[int, Sequence[Line]]) -> Iterator[str]:
    """The ratio to full depth of each mode by number of rows, and the fastest of them."""
    names = [line.engine for line in by_rows[max(by_rows)] if line.engine != FULL]
    found = {(rows, line.engine): line for rows, lines in by_rows.items() for line in lines}
    rows_of = [
        ("rows", *(str(rows) for rows in by_rows)),
        (FULL + ", tokens/s", *(_rate(found[rows, FULL]) for rows in by_rows)),
        *((name, *(_verdict(found[rows, name]) for rows in by_rows)) for name in names),
        ("fastest", *(_fastest(lines) for lines in by_rows.values())),
    ]
    yield from _table(rows_of)


def _verdict(line: Line) -> str:
    return _ratio(line.ratio) + (" slower" if line.not_slower is False else "")


def _rate(line: Line) -> str:
    return f"{line.rate:.1f}" if line.rate is not None else ""


def _fastest(lines: Sequence[Line]) -> str:
    """Of ours; the control is no mode."""
    found = {line.engine: line.ratio.value for line in lines if line.ratio and Mode.named(line.engine)}
    found.pop(AGAIN, None)
    return max(found, key=lambda name: found[name], default="")


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as what is in them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
