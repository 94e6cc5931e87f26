"""A request that cannot be served is refused when it is made, so that none can stop the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from random_models import tiny

from offramp.engine.request import MOST_STOPS, Request, Sampling
from offramp.errors import QueueFull, UsageError


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"prompt": (1.0, 2)}, "prompt token is 1.0; it must be an int"),
        ({"prompt": (np.int64(1),)}, "prompt token"),
        ({"prompt": (True,)}, "prompt token is True"),
        ({"forced": ("a",)}, "forced token is 'a'"),
        ({"salt": "\ud800"}, "salt"),
        ({"salt": "a\0b"}, "salt"),
        ({"salt": 5}, "salt is 5"),
        ({"priority": "x"}, "priority is 'x'; it must be an int"),
        ({"priority": float("nan")}, "priority is nan"),
        ({"max_tokens": 2.5}, "max_tokens is 2.5"),
        ({"run_max": 3.0}, "run_max is 3.0"),
        ({"thresholds": [0.5]}, "thresholds"),
        ({"stop": ("x",) * (MOST_STOPS + 1)}, f"at most {MOST_STOPS}"),
        ({"forced": (1,), "stop": ("x",)}, "forced"),
    ],
)
def test_requests_of_other_types(given: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        Request(**({"prompt": (1,)} | given))


@pytest.mark.parametrize("name", ["top_k", "seed", "penalty_window"])
def test_sampling_counts_are_ints(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is 1.5; it must be an int"):
        Sampling(**{name: 1.5})


def test_the_queue_is_for_those_that_wait() -> None:
    """Free slots take some at once; what more there is must fit the queue."""
    engine, request = tiny("llama").engine(slots=3, queue=1), Request((1,), max_tokens=2)
    for _ in range(4):
        engine.add(request)
    with pytest.raises(QueueFull, match="4 requests are waiting and the queue holds 1"):
        engine.add(request)
    with pytest.raises(QueueFull, match="no room for 5 more"):
        tiny("llama").engine(slots=3, queue=1).add_samples(request, 5)
    assert len(tiny("llama").engine(slots=3, queue=1).generate_all([request] * 7)) == 7


@pytest.mark.parametrize("drafts", [-1, 16, "often", 1.5])
def test_impossible_drafts(drafts: Any) -> None:
    with pytest.raises(UsageError, match="from 0 to 15"):
        tiny("llama").engine(drafts=drafts)


def test_a_policy_is_remembered_only_while_a_row_has_it() -> None:
    """Thresholds that are never the same do not pile up; rows with the same are asked together."""
    engine = tiny("llama").engine(slots=2)
    for i in range(20):
        engine.generate(Request((1,), thresholds=(i / 20,), max_tokens=2))
    assert len(engine.admission._policies) == 0
    for _ in range(2):
        engine.add(Request((1,), max_tokens=9, ignore_eos=True))
    engine.step()
    first, second = engine._running.values()
    assert first.policy is second.policy and len(engine.admission._policies) == 1
