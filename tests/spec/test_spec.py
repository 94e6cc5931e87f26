"""The specification holds: random models, requests and schedules (design 4)."""

import pytest

from .trial import Setting, Trial, run_trial


def failures(trial: Trial) -> list[str]:
    assert trial.checks, "a trial that checks nothing"
    return [name for name, ok in trial.checks if not ok]


@pytest.mark.parametrize("seed", range(8))
def test_everything_holds(seed: int) -> None:
    assert failures(run_trial(seed)) == []
