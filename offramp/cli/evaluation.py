"""`offramp eval MODEL --task NAME`: every question at full depth and with exits, answers kept, measures told apart."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from offramp.cli.bulk_settings import settings_digest
from offramp.cli.engines import engine_of
from offramp.cli.eval_bar import eval_bar
from offramp.cli.eval_options import Asks, Runs
from offramp.cli.eval_report import as_json, as_text, setting_name
from offramp.cli.eval_store import Store, key_of, store_in
from offramp.cli.eval_summary import Arm, summarise
from offramp.cli.failures import INTERRUPTED
from offramp.cli.generation import remark_on, request_for, say
from offramp.cli.options import Choosing, Leaving, Reply, Where
from offramp.cli.threads import use_threads
from offramp.engine.engine import DEFAULT_MAX_LEN, Engine
from offramp.engine.load import Checkpoint
from offramp.engine.request import Request, Sampling
from offramp.errors import CheckpointError
from offramp.evaluation.asking import Answer, Asked, Asking, answers, full_scores
from offramp.evaluation.cost import Costs, part_costs
from offramp.evaluation.evaluate import unknown_work
from offramp.evaluation.setting import FULL
from offramp.evaluation.tasks.base import task_named
from offramp.models.base import Model
from offramp.zoo.bundled import load


@dataclass(frozen=True)
class Contender:
    """A model as it runs. base: the setting, as a request of any prompt. digest: of all that decides its answers."""

    name: str
    engine: Engine
    base: Request
    digest: str


def run(model: str, asks: Asks, runs: Runs, leaving: Leaving, choosing: Choosing, where: Where) -> int:
    """Ask what is not answered yet, and print the summary; the exit code. Raises the library's errors."""
    assert asks.task is not None
    kind = task_named(asks.task)
    task = kind.load(asks.source, few_shot=asks.few_shot, limit=asks.limit, seed=asks.question_seed)
    with store_in(runs.out) as store:
        checkpoint = load(model, leaving.exits, leaving.exits_at, dtype=where.dtype, device=where.device)
        if checkpoint.text is None:
            raise CheckpointError(f"{checkpoint.folder} has no tokenizer.json and cannot read a question.")
        max_len = min(runs.max_len or DEFAULT_MAX_LEN, checkpoint.model.config.context_length)
        asking = Asking(task, checkpoint.text, max_len, asks.max_tokens)
        use_threads(checkpoint.model, where.threads)
        contenders = _contenders(checkpoint, asking, runs, leaving, choosing, where)
        if remark := remark_on(checkpoint, model, leaving, contenders[-1].base):
            say(remark)
        items = [asking.asked(i) for i in range(len(task))]
        try:
            found = [list(_answered(one, asking, items, store, asks.task)) for one in contenders]
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            say("interrupted: " + (_there(runs.out) if runs.out else "with --out FILE nothing would be lost"))
            return INTERRUPTED
    arms = [Arm(one.name, one.engine, one.base, given) for one, given in zip(contenders, found, strict=True)]
    summary = summarise(asks.task, asking, items, arms)
    if runs.json:
        print(as_json(summary, model))
    else:
        sys.stdout.write(as_text(summary, model))
    return 0


def _there(path: Path) -> str:
    return f"the same command goes on with what is in {path}"


def _contenders(
    checkpoint: Checkpoint, asking: Asking, runs: Runs, leaving: Leaving, choosing: Choosing, where: Where
) -> list[Contender]:
    """The full model, and the model with its exits where it has any."""
    sampling = Sampling(**asdict(choosing))
    more = {"tier": runs.tier, "dtype": where.dtype, "device": where.device}
    plain = replace(checkpoint, exits=None, info=None)
    full = replace(FULL, sampling=sampling).request((0,), max_tokens=1)
    engine = engine_for(plain, asking.max_len, runs, drafts=0)
    found = [Contender(FULL.name, engine, full, settings_digest(plain, full, **more))]
    if checkpoint.exits is not None:
        base = request_for(checkpoint, (0,), Reply(asking.most or 1), leaving, sampling)
        digest = settings_digest(checkpoint, base, drafts=leaving.drafts, **more)
        engine = engine_for(checkpoint, asking.max_len, runs, leaving.drafts)
        engine.admission.check(base)  # what no question could be asked with is said at once
        found.append(Contender(setting_name(base), engine, base, digest))
    return found


def engine_for(checkpoint: Checkpoint, max_len: int, runs: Runs, drafts: int | str) -> Engine:
    """Of the checkpoint, as the options of a run ask for it."""
    return engine_of(checkpoint, max_len, slots=runs.slots, memory=runs.memory, tier=runs.tier, drafts=drafts)


def _answered(
    one: Contender, asking: Asking, items: list[Asked], store: Store, task: str
) -> Iterator[Answer]:
    """The answers to all items in their order; those that are not in the store are asked for, and put there."""
    keys = [key_of(one.digest, item, asking.most, asking.stop) for item in items]
    model, costs = one.engine.model, part_costs(one.engine.model, one.engine.exits)
    missing = [
        item
        for item, key in zip(items, keys, strict=True)
        if key not in store.known or not fits(store.known[key], item, model, costs)
    ]
    with eval_bar(one.name, len(items), len(items) - len(missing)) as advance:
        for asked, answer in _asked(one, asking, missing):
            scores = asking.scores(asked.item, answer)
            about = {"task": task, "setting": one.name, "item": asked.item, "scores": scores}
            store.put(keys[asked.item], answer, about)
            advance()
    return (store.known[key] for key in keys)


def fits(answer: Answer, asked: Asked, model: Model, costs: Costs) -> bool:
    """Whether a stored answer can be one: else somebody wrote it by hand, and it is asked for again. costs: of the
    parts that would answer."""
    given = [len(given) for _, given in asked.pairs]
    if isinstance(answer, tuple):
        return given == [len(scored.logprobs) for scored in answer]
    known = range(model.config.vocab_size)
    mine = given == [0] and all(token in known for token in answer.tokens)
    return mine and not unknown_work(answer, costs)


def _asked(one: Contender, asking: Asking, items: list[Asked]) -> Iterator[tuple[Asked, Answer]]:
    if one.engine.exits or asking.most:
        return answers(one.engine, one.base, asking, items)
    return full_scores(one.engine.model, items)
