"""What a calibration found, for people: the path, the verdict, how reliable the gates are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table

from offramp.calibration.calibrate import Calibration, Gate
from offramp.calibration.reliability import Bin, Reliability
from offramp.exits.certificate import Certificate, Step

WIDTH = 20
"""Characters of a bar."""


def path_table(certificate: Certificate) -> Table:
    """A line a step that was measured, the chosen one marked."""
    count = len(certificate.path) - 1
    title = f"{certificate.metric} loss over {certificate.documents} documents"
    table = Table("step", "thresholds", title=title, box=box.SIMPLE)
    for name in ("mean depth", "loss", "p"):
        table.add_column(name, justify="right")
    table.add_column("")
    for i, step in enumerate(certificate.path):
        if i == 0 or step.loss is not None:
            table.add_row(f"{i} of {count}", *_cells(step), _mark(certificate, i))
    return table


def _cells(step: Step) -> tuple[str, ...]:
    bars = set(step.thresholds)
    shown = step.thresholds[:1] if len(bars) == 1 else step.thresholds
    numbers = [f"{value:.3f}" for value in shown[:6]] + ["..."] * (len(shown) > 6)
    if step.loss is None:
        return "nothing leaves", "", "", ""
    depth = "" if step.depth is None else f"{step.depth:.2f}"
    return " ".join(numbers), depth, f"{step.loss:.2%}", "" if step.p is None else f"{step.p:.2g}"


def _mark(certificate: Certificate, i: int) -> str:
    if i == certificate.chosen:
        return "<- kept"
    return "fails" if i == certificate.chosen + 1 else ""


def verdict(certificate: Certificate) -> str:
    """In words."""
    level = f"{certificate.metric} risk {certificate.risk:g} at confidence {certificate.confidence:g}"
    tested = f"{certificate.documents} documents"
    if certificate.never:
        return f"never: on {tested} no threshold keeps {level}, so nothing may leave. {_needed(certificate)}"
    held = (
        f" On {certificate.test_documents} more the mean loss was {certificate.test_loss:.2%}."
        if certificate.test_loss is not None
        else ""
    )
    forced = (
        " Losses are those of one pass over the full model's own text." if certificate.teacher_forced else ""
    )
    return (
        f"certified on {tested}: {level}, for new documents from the same source.{held}{forced} Void for other "
        "sources, and if the best of several calibrations is kept."
    )


def _needed(certificate: Certificate) -> str:
    loss = certificate.path[1].loss if len(certificate.path) > 1 else None
    if loss is None:
        return ""
    if certificate.needed is None:
        return f"No number of documents would help: even the safest step loses {loss:.2%}."
    enough = f"about {certificate.needed:,} calibration documents"
    return f"The safest step loses {loss:.2%}; with such losses {enough} would do."


def reliability_tables(calibration: Calibration) -> Iterator[Table]:
    """Of every exit: what its gate predicts at its temperature, and what was right."""
    for gate in calibration.gates:
        yield _gate_table(gate)


def _gate_table(gate: Gate) -> Table:
    table = Table("sure", title=_title(gate), box=box.SIMPLE)
    table.add_column("tokens", justify="right")
    table.add_column("right", justify="right")
    table.add_column(f"{'|':<{WIDTH}}" + "| right, + predicted")
    for item in _filled(gate.calibrated):
        table.add_row(
            f"{item.low:.1f}-{item.high:.1f}", f"{item.count:,}", f"{item.observed:.0%}", _bar(item)
        )
    return table


def _title(gate: Gate) -> str:
    return (
        f"exit after block {gate.after}: temperature {gate.temperature:.2f}, expected calibration error "
        f"{gate.before.error:.3f} -> {gate.calibrated.error:.3f}"
    )


def _filled(found: Reliability) -> Sequence[Bin]:
    return [item for item in found.bins if item.count]


def _bar(item: Bin) -> str:
    """The share that was right as a bar, a + where it was predicted to end."""
    full, mark = round(item.observed * WIDTH), min(WIDTH - 1, int(item.predicted * WIDTH))
    cells = ["#" if i < full else "." for i in range(WIDTH)]
    cells[mark] = "+"
    return "".join(cells)
