"""A report as one page that needs nothing else: no script, no file, no network; only its own style sheet is let in.

Whatever a model wrote is text here, never markup.
"""

from __future__ import annotations

import base64
import hashlib

from offramp.study.report.parts import Chart, Column, HeatMap, More, Part, Report, Section, Table, shown
from offramp.study.report.style import shade, style
from offramp.study.report.svg import chart_svg, legend
from offramp.study.report.words import plain


def page(report: Report) -> str:
    """The whole page."""
    sheet = style()
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    links = "".join(f'<li><a href="#{_id(s.id)}">{plain(s.title)}</a></li>' for s in report.sections)
    summary = "".join(f"<p>{plain(line)}</p>" for line in report.summary)
    about = "".join(f"<dt>{plain(k)}</dt><dd>{plain(v)}</dd>" for k, v in report.provenance.items())
    body = "".join(map(_section, report.sections))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{plain(report.title)}</title><style>{sheet}</style></head><body>"
        f"<header><h1>{plain(report.title)}</h1>{summary}<nav><ul>{links}</ul></nav></header>"
        f"<main>{body}</main><footer><h2>With what it was run</h2><dl>{about}</dl></footer></body></html>\n"
    )


def _section(section: Section) -> str:
    parts = "".join(map(_part, section.parts))
    text = "".join(f"<p>{plain(line)}</p>" for line in section.text.split("\n") if line)
    title = plain(section.title)
    return f'<section id="{_id(section.id)}"><h2>{title}</h2>{text}<div class="parts">{parts}</div></section>'


def _part(part: Part) -> str:
    if isinstance(part, More):
        inside = "".join(map(_part, part.parts))
        return f'<details><summary>{plain(part.title)}</summary><div class="parts">{inside}</div></details>'
    if isinstance(part, Chart):
        return _figure(part)
    return _table(part) if isinstance(part, Table) else _heat(part)


def _figure(chart: Chart) -> str:
    return (
        f'<figure id="{_id(chart.name)}" data-part="chart"><figcaption>{plain(chart.title)}</figcaption>'
        f"{chart_svg(chart)}{legend(chart)}</figure>"
    )


def _table(table: Table) -> str:
    head = "".join(f'<th{_words(column)} scope="col">{plain(column.text)}</th>' for column in table.columns)
    rows = "".join(f"<tr>{_cells(table, row)}</tr>" for row in table.rows)
    note = f'<p class="note">{plain(table.note)}</p>' if table.note else ""
    return (
        f'<div class="wide" id="{_id(table.name)}" data-part="table"><h3>{plain(table.title)}</h3>'
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}</div>'
    )


def _cells(table: Table, row: tuple[str | float | None, ...]) -> str:
    cells = []
    for column, cell in zip(table.columns, row, strict=True):
        cells.append(f"<td{_words(column)}>{plain(shown(cell, column.format))}</td>")
    return "".join(cells)


def _words(column: Column) -> str:
    """Of a column without a format: it holds no numbers."""
    return "" if column.format else ' class="words"'


def _heat(heat: HeatMap) -> str:
    tokens = "".join(_token(heat, i) for i in range(len(heat.tokens)))
    return (
        f'<figure class="wide" id="{_id(heat.name)}" data-part="heat"><figcaption>{plain(heat.title)}</figcaption>'
        f'<pre class="heat">{tokens}</pre>{_depths(heat)}</figure>'
    )


def _depths(heat: HeatMap) -> str:
    """What the colours mean."""
    seen = sorted({token.depth for token in heat.tokens})
    items = (f'<span class="key {shade(depth, heat.blocks)}">{depth}</span>' for depth in seen)
    return f'<p class="note">blocks behind the choice: {" ".join(items)}</p>'


def _token(heat: HeatMap, number: int) -> str:
    token = heat.tokens[number]
    gate = "" if token.gate is None else f" · gate {token.gate:.2f}"
    said = f"depth {token.depth} of {heat.blocks}{gate} · {'agrees' if token.agreed else 'differs'}"
    classes = " ".join(filter(None, (shade(token.depth, heat.blocks), "" if token.agreed else "differs")))
    named = f' class="{classes}"' if classes else ""
    text = plain(token.text.replace("\n", "⏎\n"))
    return f'<span{named} title="{said}">{text}</span>'


def _id(name: str) -> str:
    return "".join(char if char.isalnum() else "-" for char in name)
