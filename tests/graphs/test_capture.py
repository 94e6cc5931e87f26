"""The thin layer over CUDA, with CUDA's part played: what is run when, and how often."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from offramp.graphs.capture import Captured, graphs_on
from offramp.graphs.fused import fused_update


def test_elsewhere_steps_are_themselves() -> None:
    def step() -> None:
        raise AssertionError

    assert graphs_on(torch.device("cpu")).prepare(step) is step


def test_the_first_call_runs_and_captures_and_others_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    @contextmanager
    def noted(name: str) -> Iterator[None]:
        done.append(f"begin {name}")
        yield
        done.append(f"end {name}")

    stream = SimpleNamespace(wait_stream=lambda other: done.append("wait"))
    graph = SimpleNamespace(replay=lambda: done.append("replay"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda side: noted("side"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, pool, capture_error_mode: noted(pool))
    captured = Captured(lambda: done.append("step"), "capture")
    captured()
    first = ["wait", "begin side", "step", "end side", "wait", "begin capture", "step", "end capture"]
    assert done == first
    captured()
    captured()
    assert done == [*first, "replay", "replay"]


def test_the_fused_update_is_taken_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "mamba_ssm.ops.triton.selective_state_update"
    fake = SimpleNamespace(selective_state_update=print)
    monkeypatch.setitem(sys.modules, name, None)
    assert fused_update(torch.device("cuda")) is None
    for parent in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.triton"):
        monkeypatch.setitem(sys.modules, parent, SimpleNamespace(__path__=[]))
    monkeypatch.setitem(sys.modules, name, fake)
    assert fused_update(torch.device("cuda")) is print
    assert fused_update(torch.device("cpu")) is None
