"""The demo's numbers for people: a shaded text for each setting, one table a twin, and what they mean."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text as RichText

from offramp.cli.shading import legend, shaded
from offramp.zoo.showcase.quality import Quality, Trial
from offramp.zoo.showcase.settings import FULL
from offramp.zoo.showcase.show import TwinReport

COLUMNS = {
    "setting": "how the twin was run",
    "agree": "tokens that the full model would have chosen too, after the same prefix",
    "depth": "blocks behind a token's choice, mean",
    "skip": "share of all block computations never done (rejected drafts make it negative)",
    "reads": "times a block's weights were read, against full depth",
    "same": "replies equal to full depth's, token for token",
    "right": "questions answered right",
    "loops": "replies that end in a repeated phrase",
    "time": "wall clock against full depth, median over prompts, settings interleaved in one run",
}

DISPATCH = (
    "In eager PyTorch tiny models are bound by dispatch, not by weights: the time column says what it costs "
    "to start operations here, not what early exits save on a model that waits for its weights."
)


def print_report(report: TwinReport, console: Console) -> None:
    """Everything about one twin."""
    console.rule(f"[bold]{report.twin}[/bold], {report.num_blocks} blocks")
    for text in shaded_replies(report):
        console.print(text, soft_wrap=False)
    console.print(legend(report.depths, report.num_blocks))
    console.print()
    console.print(table(report))
    console.print(notes(report), highlight=False)


def shaded_replies(report: TwinReport) -> Iterator[RichText]:
    """The first prompt's reply under every setting."""
    yield RichText(next(iter(report.trials.values()))[0].task.prompt.prompt, style="dim")
    for name, trials in report.trials.items():
        yield RichText(f"── {name}", style="bold")
        yield shaded(pieces(trials[0]), report.num_blocks)


def pieces(trial: Trial) -> list[tuple[str, int]]:
    """A reply as (text, depth) pairs."""
    return [(event.text, event.depth) for event in trial.generation.events]


def table(report: TwinReport) -> Table:
    """One row a setting."""
    found = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in COLUMNS:
        found.add_column(name, justify="left" if name == "setting" else "right", no_wrap=True)
    for quality in report.rows:
        found.add_row(*cells(quality, report))
        if quality.setting == FULL:
            found.add_row("full depth again", *[""] * 7, f"{report.control:.2f}")
    return found


def cells(quality: Quality, report: TwinReport) -> tuple[str, ...]:
    """A setting's row, in the order of COLUMNS."""
    return (
        quality.setting.name,
        f"{quality.agreement:.1%}",
        f"{quality.mean_depth:.1f}",
        f"{quality.skipped:.0%}",
        f"{quality.reads:.0%}",
        f"{quality.identical}/{quality.replies}",
        f"{quality.right}/{quality.answers}",
        f"{quality.loops:.0%}",
        f"{report.times[quality.setting.name]:.2f}",
    )


def notes(report: TwinReport) -> str:
    """What the columns are, the sampled check, and the sentence about dispatch."""
    said = [f"{name}: {meaning}" for name, meaning in COLUMNS.items() if name != "setting"]
    same, tried = report.sampled
    said.append(
        f"sampled (temperature 0.8, same seed): verify equals full depth in {same} of {tried} replies"
    )
    return "\n".join([*said, DISPATCH, ""])
