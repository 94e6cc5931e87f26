"""`offramp calibrate`: thresholds that keep a stated risk, with a guarantee."""

from __future__ import annotations

from offramp.cli.calibrate_options import Promise, Replies, Run
from offramp.cli.data_options import Data
from offramp.cli.options import Choosing, Where


def calibrate(
    model: str,
    /,
    *,
    data: Data,
    promise: Promise | None = None,
    replies: Replies | None = None,
    choosing: Choosing | None = None,
    run: Run | None = None,
    where: Where | None = None,
) -> int:
    """Find thresholds under which lossy replies keep a stated risk; `generate --risk` uses them.

    With probability CONFIDENCE over the draw of the documents, new ones from the same source lose at most RISK on
    average. Exit code 1: nothing may leave.

    Parameters
    ----------
    model
        A checkpoint folder, a Hugging Face hub id, or a bundled model.
    """
    from offramp.cli import calibration

    options = (promise or Promise(), replies or Replies(), choosing or Choosing())
    return calibration.run(model, data, *options, run or Run(), where or Where())
