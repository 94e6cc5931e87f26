"""`offramp plan`: what exits would be worth, before anything is trained."""

from __future__ import annotations

from offramp.cli.data_options import Data
from offramp.cli.options import Where
from offramp.cli.plan_options import Look, Machine, Suppose


def plan(
    model: str,
    /,
    *,
    prices: bool = False,
    json: bool = False,
    data: Data | None = None,
    look: Look | None = None,
    suppose: Suppose | None = None,
    machine: Machine | None = None,
    where: Where | None = None,
) -> None:
    """Forecast what exits would gain, from about 50 prompts, before any training.

    Parameters
    ----------
    model
        A checkpoint folder or a Hugging Face hub id.
    prices
        Also what gates, bridges and the head cost beside a block.
    json
        One JSON object on stdout instead of tables.
    """
    from offramp.cli.planning import Asked, run

    asked = Asked(
        model, data, look or Look(), suppose or Suppose(), machine or Machine(), where or Where(), prices
    )
    run(asked, json)
