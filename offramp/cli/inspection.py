"""`offramp inspect` as tables, or as one JSON object. What a checkpoint says of itself is shown harmless."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from rich import box
from rich.console import Console
from rich.table import Table

from offramp.cli.anatomy import Anatomy, ExitsFound
from offramp.cli.block_kinds import BlockKind
from offramp.cli.harmless import harmless
from offramp.cli.leaving import LeavingFound
from offramp.cli.options import Where
from offramp.cli.threads import fix_threads
from offramp.evaluation.cost import Cost
from offramp.propagation.base import Propagation
from offramp.registry import find
from offramp.zoo.bundled import load

Metrics = Mapping[str, Mapping[str, float | None]]
"""Of one exit set: by exit, then by name."""


def run(model: str, as_json: bool, where: Where) -> None:
    """Load the checkpoint and describe it on stdout."""
    fix_threads(where.threads)
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
    """The model, its parts, its kinds of blocks, what leaving costs, its exits, their metrics."""
    yield _model(anatomy)
    yield _parts(anatomy)
    yield _kinds(anatomy.kinds)
    if anatomy.leaving:
        yield _leaving(anatomy.leaving, anatomy.blocks)
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
        ("blocks", _counted(anatomy)),
        ("width", str(anatomy.width)),
        ("vocabulary", f"{anatomy.vocabulary:,}"),
        ("context", f"{anatomy.context:,} tokens"),
        ("head", f"costs {anatomy.head_blocks:.2g} blocks" + (", tied to the embedding" * anatomy.tied)),
        ("state", _state(anatomy.kinds)),
    ):
        table.add_row(name, value)
    return table


def _parts(anatomy: Anatomy) -> Table:
    table = Table("part", title=f"where the bytes are, as {anatomy.dtype}")
    for name in ("parameters", "size", "share"):
        table.add_column(name, justify="right")
    for part in anatomy.parts:
        table.add_row(part.name, f"{part.parameters:,}", size_said(part.bytes), f"{part.share:.1%}")
    if anatomy.left_out:
        table.caption = harmless(
            f"{len(anatomy.left_out)} matrices stayed float32, as their rows are too short to gain: "
            f"{anatomy.left_out[0]}, ..."
        )
    return table


def _counted(anatomy: Anatomy) -> str:
    """12, or for a hybrid 32: 29 mamba2, 3 attention."""
    counts: dict[str, int] = {}
    for kind in anatomy.kinds:
        counts[kind.mixer] = counts.get(kind.mixer, 0) + len(kind.numbers)
    if len(counts) == 1:
        return f"{anatomy.blocks} of {next(iter(counts))}"
    return f"{anatomy.blocks}: " + ", ".join(f"{count} {mixer}" for mixer, count in counts.items())


def _state(kinds: tuple[BlockKind, ...]) -> str:
    """What the engine keeps of one sequence."""
    whole = sum(kind.state_bytes * len(kind.numbers) for kind in kinds)
    grows = any(kind.state_grows for kind in kinds)
    return f"{size_said(whole)} a sequence" + (
        f" of {kinds[0].tokens:,} tokens" if grows else " of any length"
    )


def _kinds(kinds: tuple[BlockKind, ...]) -> Table:
    table = _plain_table("kinds of blocks", "blocks", "mixer", "made of")
    for name in ("parameters", "MLP", "state"):
        table.add_column(name, justify="right")
    for kind in kinds:
        facts = " · ".join(f"{name} {value}" for name, value in kind.facts.items())
        mlp = f"{kind.mlp_share:.0%}" if kind.mlp_share else "–"
        state = size_said(kind.state_bytes)
        table.add_row(_ranges(kind.numbers), kind.mixer, facts, f"{kind.parameters:,}", mlp, state)
    table.caption = "parameters, the MLP's share of them, what is kept of a sequence: of one block"
    return table


def _ranges(numbers: tuple[int, ...]) -> str:
    """Block numbers, runs of them as first-last."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return " ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def size_said(count: float) -> str:
    """Bytes, in the largest unit of which there is at least one."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"


def _plain_table(title: str, *names: str) -> Table:
    """A table without lines whose cells fold: it must fit 80 columns."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _leaving(found: LeavingFound, blocks: int) -> Table:
    """Each propagation's row at the first exit, where they differ most."""
    after, by_name = next(iter(found.costs.after.items()))
    table = _plain_table(f"a token that leaves after {after} of {blocks} blocks", "propagation")
    for name in ("weights read", "", "state touched", "", "FLOPs", ""):
        table.add_column(name, justify="right")
    table.add_row("full depth", *_cost(found.costs.full, found.costs.full), end_section=True)
    for name, cost in by_name.items():
        table.add_row(name, *(_cost(cost, found.costs.full) if cost else ["–"] * 6))
    kinds = {name: find("offramp.propagation", name, Propagation) for name in by_name}
    waiting = ", ".join(name for name, kind in kinds.items() if kind.waits)
    judged = ", ".join(name for name, kind in kinds.items() if kind.judged)
    table.caption = harmless(
        f"{found.context:,} tokens into a sequence · exits: {found.exits} · FLOPs: of products\n"
        f"{waiting}: deeper reads are those of the next token that stays\n"
        f"{judged}: of a draft that is accepted"
    )
    return table


def _cost(cost: Cost, full: Cost) -> Iterator[str]:
    """Amounts, each with its share of a token's at full depth."""
    for part, whole, shown in (
        (cost.weight_bytes, full.weight_bytes, size_said(cost.weight_bytes)),
        (cost.state_bytes, full.state_bytes, size_said(cost.state_bytes)),
        (cost.flops, full.flops, _many(cost.flops)),
    ):
        yield shown
        yield f"{part / whole:.0%}" if whole else "–"


def _many(count: float) -> str:
    """A count, in the largest power of a thousand of which there is at least one."""
    for unit in ("", " k", " M", " G"):
        if count < 1000:
            return f"{count:.4g}{unit}"
        count /= 1000
    return f"{count:.4g} T"


def _exits(found: tuple[ExitsFound, ...]) -> Table:
    table = _plain_table("exits", "set", "after", "gate", "bridge", "label", "for")
    table.caption = "%: of a block's parameters · for: the propagation trained for"
    for item in found:
        if item.problem:
            cells = [item.name, f"cannot be used: {item.problem}"]
        else:
            gate, bridge = _share(item.gate, item.gate_share), _share(item.bridge, item.bridge_share)
            cells = [item.name, " ".join(map(str, item.after)), gate, bridge, item.label, item.propagation]
        table.add_row(*map(harmless, cells))
    return table


def _share(name: str, share: float) -> str:
    return f"{name} {share:.2%}" if share else name


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
