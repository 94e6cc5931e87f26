"""A report of every kind of part, with what a hostile model might write in it."""

from __future__ import annotations

from offramp.study.report.parts import (
    Axis,
    Chart,
    Column,
    HeatMap,
    More,
    Point,
    Report,
    Section,
    Series,
    Table,
    Token,
)

HOSTILE = "<script>console.error('run')</script><img src=x onerror=alert(1)>\" ' & \u202e \x00 </pre>"


def chart(name: str, kind: str = "lines", series: int = 3) -> Chart:
    made = tuple(
        Series(f"arm {i} <b>", tuple(Point(x / 4, (x + i) / 9, x / 10, 0.8) for x in range(5)), i, i)
        for i in range(series)
    )
    return Chart(name, f"chart {name} & more", Axis("x <i>", True), Axis("y", True), made, kind)  # type: ignore[arg-type]


def report() -> Report:
    """All kinds of parts, in two sections."""
    table = Table(
        "table-a",
        "numbers",
        (Column("arm"), Column("share", ".1%"), Column("count", ",.0f"), Column("words")),
        (("first", 0.125, 12345.0, "no difference beyond noise"), (HOSTILE, None, 3.0, "b")),
        "a note",
    )
    words = ("plain ", HOSTILE, "\tdeep\n", "é👍")
    tokens = tuple(
        Token(text, depth, gate, depth != 6)
        for text, depth, gate in zip(words, (3, 6, 12, 9), (0.5, 0.25, None, 1), strict=True)
    )
    heat = HeatMap("heat-a", f"reply to {HOSTILE}", 12, tokens)
    first = Section("one", "first", "text\nmore text", (chart("lines-a"), chart("bars-a", "bars"), table))
    second = Section(
        "two",
        "second",
        "",
        (More("folded", (chart("cal-a", "calibration"), chart("none-a", series=0))), heat),
    )
    return Report("a report", ("a summary",), {"processor": "one"}, (first, second))
