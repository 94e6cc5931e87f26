"""The specification holds: random models, requests and schedules (design 4)."""

from random import Random

import pytest

from .propagation import PROPAGATIONS
from .row import Row
from .schedule import serve
from .tiny import BRIDGES, random_model, random_request
from .trial import Setting, Trial, run_trial


def failures(trial: Trial) -> list[str]:
    assert trial.checks, "a trial that checks nothing"
    return [name for name, ok in trial.checks if not ok]


@pytest.mark.parametrize("seed", range(6))
def test_everything_holds(seed: int) -> None:
    assert failures(run_trial(seed)) == []


@pytest.mark.slow
@pytest.mark.parametrize("four", range(2, 62))
def test_everything_holds_often(four: int) -> None:
    broken = {seed: failures(run_trial(seed)) for seed in range(4 * four, 4 * four + 4)}
    assert not any(broken.values()), broken


def test_never_is_no_exits() -> None:
    """Design 4.4, in every propagation."""
    trial = run_trial(0, Setting(policy="never", request={"max_tokens": 8}))
    assert failures(trial) == [] and sum(name == "never == no exits" for name, _ in trial.checks) == len(
        PROPAGATIONS
    )


@pytest.mark.parametrize("bridge", BRIDGES)
def test_always_drafts_up_to_run_max(bridge: str) -> None:
    """Chunks as long as they may be, on every bridge."""
    request = {"max_tokens": 20, "run_max": 15, "stop": None, "eos": frozenset()}
    trial = run_trial(1, Setting(("verify", "defer"), "always", bridge=bridge, request=request))
    assert failures(trial) == []
    assert max(row.stats.left for row in trial.rows) >= 15


def test_trials_are_not_empty() -> None:
    """Drafts are made, accepted and refused, ends cut judgements short, rows end in every way."""
    rows = [row for seed in range(30, 60) for row in _served_alone(seed)]
    assert min(sum(getattr(row.stats, name) for row in rows) for name in ("left", "rejected", "cut")) >= 10
    assert sum(len(row.emitted) - row.stats.deep for row in rows) > 50  # accepted
    assert {"eos", "stop", "max_tokens", "context", "nan"} <= {row.ended for row in rows}


def _served_alone(seed: int) -> list[Row]:
    rng = Random(seed)
    model = random_model(rng)
    rows = [Row(model, random_request(rng, model, "verify")) for _ in range(2)]
    serve(rows, rng)
    return rows
