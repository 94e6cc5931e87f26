"""`offramp eval MODEL --harness TASK`: tasks of lm-evaluation-harness through our engine."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from offramp.cli.eval_options import Asks, Runs
from offramp.cli.eval_report import setting_name
from offramp.cli.evaluation import engine_for
from offramp.cli.generation import remark_on, request_for, say
from offramp.cli.options import Choosing, Leaving, Reply, Where
from offramp.cli.threads import use_threads
from offramp.data.extras import extra
from offramp.engine.engine import DEFAULT_MAX_LEN
from offramp.engine.request import Sampling
from offramp.errors import CheckpointError, DataError, UsageError
from offramp.evaluation.setting import Setting
from offramp.zoo.bundled import load

NEEDED = ("harness", "--harness")
DRAWS = 1000
"""Of the harness's own bootstrap, for measures whose error has no formula."""


def run(model: str, asks: Asks, runs: Runs, leaving: Leaving, choosing: Choosing, where: Where) -> int:
    """Print the harness's results; the exit code. Raises the library's errors, UsageError where it is missing."""
    assert asks.harness is not None
    if runs.out is not None:
        raise UsageError(
            "--out keeps the answers of --task; results of --harness go to stdout: --json > FILE."
        )
    extra("lm_eval", *NEEDED)
    from offramp.evaluation.harness import OfframpLM

    checkpoint = load(model, leaving.exits, leaving.exits_at, dtype=where.dtype, device=where.device)
    if checkpoint.text is None:
        raise CheckpointError(f"{checkpoint.folder} has no tokenizer.json and cannot read a question.")
    use_threads(checkpoint.model, where.threads)
    max_len = min(runs.max_len or DEFAULT_MAX_LEN, checkpoint.model.config.context_length)
    sampling = Sampling(**asdict(choosing))
    base = request_for(checkpoint, (0,), Reply(asks.max_tokens or 1), leaving, sampling)
    engine = engine_for(checkpoint, max_len, runs, leaving.drafts)
    engine.admission.check(base)
    if remark := remark_on(checkpoint, model, leaving, base):
        say(remark)
    setting = Setting(
        setting_name(base), base.propagation, base.policy, base.thresholds, base.run_max, sampling
    )
    lm = OfframpLM(engine, setting)
    results = _evaluated(lm, asks)
    shown = {"model": model, "setting": setting.name, **lm.depths.said(len(checkpoint.model.blocks))}
    if runs.json:
        print(json.dumps(shown | {"results": results}, default=str))
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(shown, results))
    return 0


def _evaluated(lm: Any, asks: Asks) -> dict[str, dict[str, Any]]:
    """By task, the harness's metrics."""
    assert asks.harness is not None
    options = {} if asks.max_tokens is None else {"gen_kwargs": {"max_gen_toks": asks.max_tokens}}
    names = [name.strip() for name in asks.harness.split(",") if name.strip()]
    manager = _manager(asks, names)
    try:
        found = extra("lm_eval", *NEEDED).simple_evaluate(
            model=lm,
            tasks=names,
            task_manager=manager,
            num_fewshot=asks.few_shot,
            limit=asks.limit,
            fewshot_random_seed=1234 if asks.question_seed == 0 else asks.question_seed,
            bootstrap_iters=DRAWS,
            log_samples=False,
            **options,
        )
    except (OSError, ValueError) as error:  # what the harness's data loading raises
        raise DataError(
            f"the harness cannot run {', '.join(names)}: {' '.join(str(error).split())}"
        ) from error
    return dict(found["results"])


def _manager(asks: Asks, names: Sequence[str]) -> Any:
    """What knows the tasks. The harness's own are thousands of files, read only where the user's do not do.

    Raises UsageError for a task that nobody knows.
    """
    manage, own = extra("lm_eval.tasks", *NEEDED).TaskManager, str(asks.include) if asks.include else None
    if own is not None:
        manager = manage(include_path=own, include_defaults=False)
        if set(names) <= set(manager.all_tasks):
            return manager
    manager = manage(include_path=own)
    unknown = [name for name in names if name not in manager.all_tasks]
    if unknown or not names:
        raise UsageError(
            f"the harness has no task {(unknown or [''])[0]!r} (`lm-eval ls tasks` lists them; --include FOLDER adds "
            "your own)."
        )
    return manager


def _lines(shown: dict[str, Any], results: dict[str, dict[str, Any]]) -> Iterator[str]:
    left = f"{shown['tokens_left']:.1%} of tokens left early"
    yield f"{shown['model']} · {shown['setting']} · mean depth {shown['depth']:.2f}, {left}"
    yield ""
    for task, metrics in results.items():
        for name, value in metrics.items():
            metric, found, filtered = name.partition(",")
            if not found or metric.endswith("_stderr") or not isinstance(value, float):
                continue
            error = metrics.get(f"{metric}_stderr,{filtered}")
            spread = f" ± {error:.4f}" if isinstance(error, float) else ""
            kind = "" if filtered == "none" else f" ({filtered})"
            yield f"{task:24}  {metric + kind:32}  {value:.4f}{spread}"
