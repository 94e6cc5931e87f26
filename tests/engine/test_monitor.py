"""What verified traffic says of the exits, and the one warning when it leaves what was calibrated."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_models import tiny

from offramp.engine.engine import Engine
from offramp.engine.monitor import FEWEST, LOG_EVERY, Monitor, clopper_pearson
from offramp.engine.promise import binding_of
from offramp.engine.request import Request
from offramp.exits.certificate import Certificate, Step

TINY = tiny()
REQUESTS = [Request((1 + i, 2, 3), thresholds=(0.2,), max_tokens=24) for i in range(6)]


def certificate(engine: Engine, low: float, high: float) -> Certificate:
    request = replace(REQUESTS[0], propagation="defer", thresholds=(0.2, 0.2, 0.2))
    path = (Step((1.0, 1.0, 1.0)), Step(request.thresholds, 0.0, 0.0, 4.0))
    binding = binding_of(engine.admission.facts, "none", request)
    return Certificate(binding, "agreement", 0.05, 0.95, 1, path, 300, "data", accepted=(low, high))


def test_every_judged_draft_is_counted_once() -> None:
    """Accepted drafts as the replies' own statistics have them; judged ones are those and one for each rejection."""
    engine = TINY.engine(slots=3)
    replies = engine.generate_all(REQUESTS)
    accepted = sum(reply.stats.accepted for reply in replies)
    assert engine.agreement.accepted == accepted > 0
    assert accepted < engine.agreement.judged <= sum(reply.stats.drafts for reply in replies)
    share = engine.agreement.share
    assert share is not None
    low, high = engine.agreement.interval()
    assert 0 <= low < share < high <= 1


def test_lossy_traffic_is_not_counted() -> None:
    engine = TINY.engine()
    engine.generate(replace(REQUESTS[0], propagation="defer"))
    assert engine.agreement.judged == 0 and engine.agreement.share is None
    assert engine.agreement.interval() == (0.0, 1.0)


@given(st.integers(1, 80), st.data(), st.sampled_from([0.9, 0.95, 0.999]))
def test_the_interval_is_clopper_and_pearsons(n: int, data: st.DataObject, confidence: float) -> None:
    """At each end the tail's probability, summed by hand, is half of what is left."""
    k = data.draw(st.integers(0, n))
    low, high = clopper_pearson(k, n, confidence)
    tail = (1 - confidence) / 2

    def at_most(most: int, share: float) -> float:
        terms = (math.comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(most + 1))
        return math.fsum(terms)

    assert (low == 0.0) if k == 0 else (1 - at_most(k - 1, low) == pytest.approx(tail, abs=1e-9))
    assert (high == 1.0) if k == n else (at_most(k, high) == pytest.approx(tail, abs=1e-9))


def watch(low: float, high: float) -> tuple[Monitor, Certificate]:
    return Monitor(), certificate(TINY.engine(), low, high)


def test_traffic_within_the_interval_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    monitor, known = watch(0.85, 0.95)
    for _ in range(100):
        monitor.watch(known).judged(10, 9)
    assert not caplog.records and monitor.agreement.judged == 1000


@pytest.mark.parametrize("accepted", [6, 10])
def test_one_warning_when_traffic_leaves_it(caplog: pytest.LogCaptureFixture, accepted: int) -> None:
    monitor, known = watch(0.85, 0.95)
    for _ in range(FEWEST // 10 - 1):
        monitor.watch(known).judged(10, accepted)
    assert not caplog.records  # few drafts say little
    for _ in range(100):
        monitor.watch(known).judged(10, accepted)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "0.850 to 0.950" in caplog.text and "void" in caplog.text


def test_traffic_of_others_does_not_count(caplog: pytest.LogCaptureFixture) -> None:
    monitor, known = watch(0.85, 0.95)
    monitor.watch(known).judged(100, 90)
    monitor.watch(None).judged(1000, 0)
    monitor.watch(replace(known, accepted=None)).judged(1000, 0)
    assert not caplog.records and monitor.agreement.judged == 2100


def test_a_line_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "offramp")
    monitor = Monitor()
    for _ in range(25):
        monitor.watch(None).judged(LOG_EVERY // 10, LOG_EVERY // 20)
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]


def test_the_engine_warns_of_other_prompts(caplog: pytest.LogCaptureFixture) -> None:
    engine = TINY.engine(slots=4)
    known = certificate(engine, 0.999, 1.0)
    requests = [replace(REQUESTS[0], prompt=(1 + i, 2, 3), certificate=known) for i in range(30)]
    for request in requests:
        engine.generate(request)
        if caplog.records:
            break
    assert engine.agreement.judged >= FEWEST
    assert [record.name for record in caplog.records] == ["offramp"]
