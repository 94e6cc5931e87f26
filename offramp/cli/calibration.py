"""`offramp calibrate`: documents in, a certificate beside the exits out; what was found as tables or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from offramp.calibration.calibrate import Calibration, Plan, calibrate
from offramp.calibration.items import SHARES, Item, answers_of, asked, continued
from offramp.calibration.losses import metric_named
from offramp.cli.calibrate_options import Promise, Replies, Run
from offramp.cli.calibration_progress import calibration_bar
from offramp.cli.calibration_tables import path_table, reliability_tables, verdict
from offramp.cli.data_options import Data
from offramp.cli.failures import FAILED
from offramp.cli.generation import say
from offramp.cli.options import Choosing, Where
from offramp.cli.threads import use_threads
from offramp.data.reading import read_documents
from offramp.data.split import split
from offramp.engine.load import Checkpoint
from offramp.engine.request import Sampling
from offramp.errors import CheckpointError, ExitsError, UsageError
from offramp.evaluation.setting import Setting
from offramp.exits.certificates import save_certificate
from offramp.files import cache_folder, write_whole
from offramp.text import Text
from offramp.zoo.bundled import load

MOST_DOCUMENTS = 10_000
"""Read when nobody says: more than any calibration can use in a day here."""


def run(
    model: str, data: Data, promise: Promise, replies: Replies, choosing: Choosing, options: Run, where: Where
) -> int:
    """Calibrate, write the certificate, show what was found; the exit code: 1 for "never". Raises the library's
    errors."""
    plan = _plan(promise, replies, choosing, options)  # a mistake in it is said before a large model is read
    _check_answers(promise, options)
    _check_run(replies, options)
    checkpoint = load(model, replies.exits, replies.exits_at, dtype=where.dtype, device=where.device)
    exits = _exits_folder(checkpoint, model)
    use_threads(checkpoint.model, where.threads)
    parts = _parts(_text(checkpoint), data, replies, options)
    with calibration_bar() as report:
        found = calibrate(
            checkpoint,
            parts,
            plan,
            memory=options.keep or _kept_in(),
            replace_earlier=options.replace,
            progress=report,
        )
    if options.losses is not None:
        write_whole(options.losses, json.dumps(losses_table(found), allow_nan=False) + "\n")
    path = save_certificate(found.certificate, exits, options.replace)
    show(found, options.json)
    say(f"written to {path}")
    if found.certificate.never:
        say(verdict(found.certificate))
    return FAILED if found.certificate.never else 0


def show(found: Calibration, as_json: bool) -> None:
    """On stdout."""
    if as_json:
        print(json.dumps(found.to_json(), allow_nan=False))
        return
    console = Console(highlight=False, markup=False)
    for table in (*reliability_tables(found), path_table(found.certificate)):
        console.print(table)
    if not found.certificate.never:
        console.print(verdict(found.certificate), soft_wrap=True)


def losses_table(found: Calibration) -> dict[str, object]:
    """Every document's loss at every step that was measured, the safest first."""
    steps = found.certificate.path[1:]
    measured = [list(step.thresholds) for step in steps[: len(found.losses)]]
    return {
        "metric": found.certificate.metric,
        "binding": asdict(found.certificate.binding),
        "thresholds": measured,
        "losses": [[round(loss, 6) for loss in losses_D] for losses_D in found.losses],
    }


def _plan(promise: Promise, replies: Replies, choosing: Choosing, options: Run) -> Plan:
    setting = Setting(
        "calibrated",
        propagation=replies.propagation,
        policy=replies.policy,
        run_max=replies.run_max,
        sampling=Sampling(**asdict(choosing)),
    )
    return Plan(
        risk=promise.risk,
        confidence=promise.confidence,
        metric=promise.metric,
        setting=setting,
        max_tokens=replies.max_tokens,
        stop=replies.stop,
        steps=promise.steps,
        teacher_forced=promise.teacher_forced,
        every_step=options.losses is not None,
        seed=options.split_seed,
    )


def _check_answers(promise: Promise, options: Run) -> None:
    if metric_named(promise.metric).asks and options.answer_field is None:
        raise UsageError(
            f"metric {promise.metric} needs right answers: name their field with --answer-field, and the prompts' with "
            "--field."
        )


def _check_run(replies: Replies, options: Run) -> None:
    """What would otherwise be noticed after hours, or never."""
    if replies.prompt_tokens < 1:
        raise UsageError(f"--prompt-tokens is {replies.prompt_tokens}; it must be at least 1")
    if options.split_seed < 0:
        raise UsageError(f"--split-seed is {options.split_seed}; it must be at least 0")
    if options.losses is not None and not options.losses.parent.is_dir():
        raise UsageError(
            f"--losses {options.losses}: there is no folder {options.losses.parent}; make it first"
        )


def _exits_folder(checkpoint: Checkpoint, model: str) -> Path:
    if checkpoint.exits_folder is None:
        raise ExitsError(
            f"{model} has no trained exits to calibrate; `offramp train {model} --data FILE` trains some"
        )
    return checkpoint.exits_folder


def _text(checkpoint: Checkpoint) -> Text:
    if checkpoint.text is None:
        raise CheckpointError(f"{checkpoint.folder} has no tokenizer.json, so it cannot read documents.")
    return checkpoint.text


def _parts(text: Text, data: Data, replies: Replies, options: Run) -> Mapping[str, Sequence[Item]]:
    """The documents of each part, as they are asked."""
    documents = data.read(MOST_DOCUMENTS)
    found = split(documents, SHARES, options.split_seed)
    if options.answer_field is None:
        return {
            name: [continued(one, text.encode, replies.prompt_tokens) for one in part]
            for name, part in found.items()
        }
    limit = data.max_documents or MOST_DOCUMENTS
    answers = answers_of(
        documents,
        read_documents(data.data, field=options.answer_field, id_field=data.id_field, limit=limit),
    )
    return {
        name: [asked(one, answers[one.id], text.encode, replies.prompt_tokens) for one in part]
        for name, part in found.items()
    }


def _kept_in() -> Path | None:
    """A folder of the user's cache; None where there is none."""
    folder = cache_folder()
    return folder / "calibration" if folder else None
