"""`offramp eval`: what early exits cost a model on a task, and what they save."""

from __future__ import annotations

from offramp.cli.eval_options import Asks, Runs
from offramp.cli.options import Choosing, Leaving, Where


def eval(
    model: str,
    /,
    *,
    asks: Asks | None = None,
    runs: Runs | None = None,
    leaving: Leaving | None = None,
    choosing: Choosing | None = None,
    where: Where | None = None,
) -> int:
    """Measure a model and its exits on a task: quality, agreement, compute.

    Parameters
    ----------
    model
        A checkpoint folder or a Hugging Face hub id.
    """
    asked, options = asks or Asks(), (leaving or Leaving(), choosing or Choosing(), where or Where())
    asked.check()
    if asked.harness is not None:
        from offramp.cli import harness

        return harness.run(model, asked, runs or Runs(), *options)
    from offramp.cli import evaluation

    return evaluation.run(model, asked, runs or Runs(), *options)
