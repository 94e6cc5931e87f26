"""`offramp bench`: from options to engines, prompts and a report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from offramp.bench.contender import Job, Prompt
from offramp.bench.ours import AGAIN, FULL, Mode
from offramp.bench.random_models import write_random
from offramp.bench.report import Conditions, Report
from offramp.bench.results import Line, lines
from offramp.bench.rounds import Plan, race, work
from offramp.bench.worker import PEERS
from offramp.cli.bench_bar import bench_bar
from offramp.cli.bench_options import Exits, Race
from offramp.cli.bench_prompts import LENGTH, at_random, bundled, fitted, from_file
from offramp.cli.bench_report import as_text
from offramp.cli.options import Where
from offramp.cli.threads import use_threads
from offramp.engine.load import DTYPES, device_named
from offramp.errors import OfframpError, UnknownName, UsageError
from offramp.forecast.shapes import shapes_of
from offramp.mixers.base import RUN_LIMIT
from offramp.models.base import Model
from offramp.models.checkpoint import local_folder
from offramp.native import library as native
from offramp.registry import names, unknown
from offramp.study.provenance import provenance
from offramp.text import Text
from offramp.zoo.bundled import resolve

AHEAD = 4
"""Of many rows some say more than others: room for so many times their share."""
GATE = "mamba"
"""Of random weights' exits, where nobody says."""
PICTURES = (".png", ".svg")


@dataclass(frozen=True)
class Asked:
    """The command line. model or random: one of the two."""

    model: str | None
    random: str | None
    race: Race
    exits: Exits
    where: Where
    json: Path | None
    plot: Path | None

    def check(self) -> None:
        """Raises UsageError for options that do not go together."""
        self.race.check()
        self.exits.check()
        if (self.model is None) == (self.random is None):
            raise UsageError("what should run? Give MODEL, or --random SHAPE (llama-100m): one of the two.")
        if self.plot is not None and self.plot.suffix not in PICTURES:
            raise UsageError(f"--plot is {self.plot}; its name must end in {' or '.join(PICTURES)}.")
        if self.plot is not None and find_spec("matplotlib") is None:
            raise UsageError("--plot needs matplotlib: pip install 'offramp[plot]'.")
        for name in engines_of(self):
            if Mode.named(name) is None and name not in names(PEERS):
                raise UnknownName(
                    unknown("engine", name, [FULL, *names("offramp.propagation"), *names(PEERS)])
                )

    @property
    def labels(self) -> tuple[str, ...]:
        """What figures depend on, beside the model and the machine."""
        heat, forced = self.race.temperature, self.exits.forced
        said = {
            "random weights": self.random is not None,
            f"agreement forced: {forced}": forced is not None,
            f"temperature {heat:g}": heat != 0,
        }
        return tuple(label for label, is_so in said.items() if is_so)


def engines_of(asked: Asked) -> list[str]:
    """Full depth twice, then those asked for."""
    others = asked.race.engines
    if others is None:
        others = (*names("offramp.propagation"), *names(PEERS))
    return list(dict.fromkeys([FULL, AGAIN, *others]))


def run(asked: Asked) -> None:
    """The table on stdout, progress on stderr, files where asked for. Raises the library's errors."""
    asked.check()
    with TemporaryDirectory(prefix="offramp-bench-") as scratch:
        report = _report(asked, Path(scratch))
    if asked.json is not None:
        asked.json.write_text(json.dumps(asdict(report), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if asked.plot is not None:
        from offramp.cli.bench_picture import draw

        draw(report, asked.plot)
    print(as_text(report), end="")


def _report(asked: Asked, scratch: Path) -> Report:
    folder = _folder(asked, scratch)
    model = shapes_of(folder, _stored_in(asked))
    prompts = _prompts(asked, model, folder)
    threads, context = use_threads(model, asked.where.threads), model.config.context_length
    job = _job(asked, folder, scratch, threads, context, max(map(len, prompts)))
    sizes = [1, *sorted(set(asked.race.batch or ()) - {1})]
    wanted = {rows: engines_of(asked) if rows == 1 else _of_ours(engines_of(asked)) for rows in sizes}
    plans = {rows: Plan(_by_round(prompts, rows), asked.race.rounds, asked.race.seed) for rows in sizes}
    total = sum(work(len(wanted[rows]), plans[rows]) for rows in sizes)
    found: dict[int, Sequence[Line]] = {}
    with bench_bar(total) as tick:
        for rows in sizes:
            jobs = [_for(job, name, rows, context) for name in wanted[rows]]
            found[rows] = lines(race(jobs, plans[rows], tick), _strangers(asked))
    if found[1][0].out:
        raise OfframpError(f"full depth cannot run: {found[1][0].out}")
    return Report(_conditions(asked, threads, prompts), found.pop(1), found)


def _strangers(asked: Asked) -> list[str]:
    """Those that are not asked for our text: lots and our noise are ours alone."""
    if asked.exits.forced is None and asked.race.temperature == 0:
        return []
    return [name for name in engines_of(asked) if Mode.named(name) is None]


def _of_ours(engines: Sequence[str]) -> list[str]:
    """Others run one row only."""
    return [name for name in engines if Mode.named(name) is not None]


def _folder(asked: Asked, scratch: Path) -> Path:
    """The checkpoint, written now where its weights are random."""
    if asked.random is None:
        assert asked.model is not None
        return local_folder(resolve(asked.model))
    folder = scratch / asked.random
    folder.mkdir()
    write_random(asked.random, folder, _stored_in(asked), asked.exits.exits or GATE, asked.race.seed)
    return folder


def _stored_in(asked: Asked) -> torch.dtype:
    """Fewer bits are made of bfloat16 when it is loaded."""
    return DTYPES.get(asked.where.dtype, torch.bfloat16)


def _prompts(asked: Asked, model: Model, folder: Path) -> list[Prompt]:
    """Cut to what fits the context."""
    text = Text.load(folder) if (folder / "tokenizer.json").is_file() else None
    vocab = model.config.vocab_size
    if asked.race.prompts is not None:
        found = from_file(asked.race.prompts, text)
    elif text is not None:
        found = bundled(text)
    else:
        found = at_random(vocab, asked.race.seed, asked.race.prompt_tokens or LENGTH)
    room = model.config.context_length - asked.race.max_tokens - RUN_LIMIT
    return fitted(found, vocab, min(room, asked.race.prompt_tokens or room))


def _by_round(prompts: Sequence[Prompt], rows: int) -> list[list[Prompt]]:
    """By round as many prompts as rows, each round beginning with another one."""
    return [[prompts[(start + row) % len(prompts)] for row in range(rows)] for start in range(len(prompts))]


def _job(asked: Asked, folder: Path, scratch: Path, threads: int, context: int, longest: int) -> Job:
    """Of full depth and one row. context: of the model. longest: of the prompts."""
    exits, where = asked.exits, asked.where
    return Job(
        FULL,
        folder,
        scratch,
        tokens=asked.race.max_tokens,
        max_len=min(longest + asked.race.max_tokens + RUN_LIMIT, context),
        threads=threads,
        dtype=where.dtype,
        device=device_named(where.device).type,
        exits=None if asked.random else exits.exits,
        exits_at=exits.exits_at,
        policy=exits.policy,
        thresholds=exits.threshold,
        forced=exits.forced,
        temperature=asked.race.temperature,
    )


def _for(job: Job, engine: str, rows: int, context: int) -> Job:
    """The same for another engine, or more rows: some of those say more than others."""
    ahead = (AHEAD - 1) * job.tokens if rows > 1 else 0
    return replace(job, engine=engine, rows=rows, max_len=min(job.max_len + ahead, context))


def _conditions(asked: Asked, threads: int, prompts: Sequence[Prompt]) -> Conditions:
    machine = provenance(1, device_named(asked.where.device).type, asked.where.dtype)
    library = native.find()
    machine["kernels"] = library.isa if library else "none"
    return Conditions(
        asked.model or str(asked.random),
        asked.labels,
        asked.where.dtype,
        threads,
        asked.race.rounds,
        asked.race.max_tokens,
        len(prompts),
        machine,
    )
