"""`offramp inspect` as tables, or as one JSON object. What a checkpoint says of itself is shown harmless."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from rich import box
from rich.console import Console
from rich.table import Table

from offramp.cli.anatomy import Anatomy, ExitsFound
from offramp.cli.harmless import harmless
from offramp.cli.options import Where
from offramp.zoo.bundled import load

Metrics = Mapping[str, Mapping[str, float | None]]
"""Of one exit set: by exit, then by name."""


def run(model: str, as_json: bool, where: Where) -> None:
    """Load the checkpoint and describe it on stdout."""
    anatomy = Anatomy.of(load(model, "none", dtype=where.dtype, device=where.device))
    if as_json:
        print(json.dumps(asdict(anatomy)))
        return
    console = Console(highlight=False, markup=False)
    for table in tables(anatomy):
        console.print(table)
    if not anatomy.exits:
        console.print(harmless(f"no exits; `offramp train {model} --data FILE` trains them"))


def tables(anatomy: Anatomy) -> Iterator[Table]:
    """The model, its parts, its exits, their metrics."""
    yield _model(anatomy)
    yield _parts(anatomy)
    if not anatomy.exits:
        return
    yield _exits(anatomy.exits)
    for found in anatomy.exits:
        if found.metrics:
            yield metrics_table(found.name, found.metrics)


def _model(anatomy: Anatomy) -> Table:
    table = Table(title=harmless(anatomy.folder), show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in (
        ("family", anatomy.family),
        ("parameters", f"{anatomy.parameters:,} ({anatomy.dtype})"),
        ("blocks", str(anatomy.blocks)),
        ("width", str(anatomy.width)),
        ("vocabulary", f"{anatomy.vocabulary:,}"),
        ("context", f"{anatomy.context:,} tokens"),
        ("head", f"costs {anatomy.head_blocks:.2g} blocks" + (", tied to the embedding" * anatomy.tied)),
    ):
        table.add_row(name, value)
    return table


def _parts(anatomy: Anatomy) -> Table:
    table = Table("part", title=f"where the bytes are, as {anatomy.dtype}")
    for name in ("parameters", "MiB", "share"):
        table.add_column(name, justify="right")
    for part in anatomy.parts:
        table.add_row(part.name, f"{part.parameters:,}", f"{part.bytes / 2**20:.2f}", f"{part.share:.1%}")
    return table


def _exits(found: tuple[ExitsFound, ...]) -> Table:
    table = Table(title="exits", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in ("set", "after", "kind", "bridge", "label", "for"):
        table.add_column(name, overflow="fold")
    table.add_column("gate", justify="right")
    table.caption = (
        "for: the propagation trained for · the last column: a gate's parameters against a block's"
    )
    for item in found:
        if item.problem:
            cells = [item.name, f"cannot be used: {item.problem}"]
        else:
            after, share = " ".join(map(str, item.after)), f"{item.gate_share:.2%}"
            cells = [item.name, after, item.gate, item.bridge, item.label, item.propagation, share]
        table.add_row(*map(harmless, cells))
    return table


def metrics_table(name: str, metrics: Metrics) -> Table:
    """What a set's gates got right on held-out text, one column an exit."""
    table = Table(title=harmless(f"{name}: gates on held-out text"))
    table.add_column("")
    for at in metrics:
        table.add_column(harmless(at.replace("after", "after ")), justify="right")
    for row in dict.fromkeys(row for values in metrics.values() for row in values):
        numbers = (_number(values.get(row)) for values in metrics.values())
        table.add_row(harmless(row.replace("_", " ")), *numbers)
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
