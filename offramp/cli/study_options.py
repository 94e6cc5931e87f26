"""The options of `offramp study`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Group, Parameter, validators


@Parameter(name="*", group=Group("How much of it", sort_key=10))
@dataclass(frozen=True)
class Extent:
    """How large the study is, and how it runs.

    Parameters
    ----------
    quick
        A small one: under five minutes on four cores for both bundled models.
    seeds
        Training seeds. [default: 3; with --quick 2]
    processes
        Jobs that run at a time, each with a model of its own; they share the cores. [default: on a CPU as many as there
        are cores, on a GPU 1]
    dry_run
        Only show what would be run, and about how long it would take.
    """

    quick: bool = False
    seeds: int | None = None
    processes: int | None = None
    dry_run: bool = False


@Parameter(name="*", group=Group("The data", sort_key=3))
@dataclass(frozen=True)
class Texts:
    """What is trained and measured on.

    Parameters
    ----------
    data
        Documents: a .jsonl, .json, .csv, .tsv, .parquet or text file, a folder of them, hf:OWNER/NAME of the hub, or
        a folder that `python -m offramp.zoo.corpus` wrote. [default: for the bundled models that corpus, made where
        it is missing]
    field
        The field, or column, that holds the text.
    max_documents
        Read no more than so many, the first ones.
    """

    data: str | None = None
    field: str = "text"
    max_documents: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None
