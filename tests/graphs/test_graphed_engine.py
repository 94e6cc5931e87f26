"""The engine over static steps, recorded and replayed as a GPU would: what it says is what the plain one says."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from random_models import Tiny, tiny
from recorded_steps import recorded

from offramp.engine import engine as engine_module
from offramp.engine import runner as runner_module
from offramp.engine.engine import Engine
from offramp.engine.graphed import find_graphs
from offramp.engine.request import Request, Sampling
from offramp.engine.runner import GraphedRunner, Runner, choose_runner
from offramp.engine.tier import FAST
from offramp.exits.base import Exit
from offramp.exits.gates.linear import Linear
from offramp.graphs.capture import graphs_on
from offramp.graphs.modules import why_not_static
from offramp.models.base import Model

BACKBONES = ["llama", "mistral", "gpt_neox", "mamba", "falcon_mamba", "mamba2", "mamba2-groups", "bamba"]
EXITS = [("mamba", "none"), ("transformer", "last_block"), ("linear", "block"), ("mamba", "block-gate")]
PROPAGATIONS = ["verify", "defer", "project", "skip", "copy_block", "copy_token"]
KINDS = [*BACKBONES, "llama", "mamba2", "bamba"]
CASES = [
    (backbone, *EXITS[i % len(EXITS)], PROPAGATIONS[1 + i % 5]) for i, backbone in enumerate(reversed(KINDS))
]
LENGTH = 16


def engine_of(setup: Tiny, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> Engine:
    with monkeypatch.context() as patch:
        patch.setattr(engine_module, "choose_runner", lambda *_: runner)
        return setup.engine(slots=3)


def requests(propagation: str) -> list[Request]:
    return [
        Request(
            tuple(range(1, 2 + 5 * i)),
            propagation=propagation,
            policy="gate",
            thresholds=(0.4,),
            sampling=Sampling(temperature=0.7 * (i % 2), seed=i),
            max_tokens=LENGTH,
            ignore_eos=True,
        )
        for i in range(4)
    ]


def said(engine: Engine, asked: Sequence[Request]) -> tuple[list[tuple[int, ...]], torch.Tensor]:
    replies = engine.generate_all(asked)
    logprobs = [event.logprob for reply in replies for event in reply.events]
    return [reply.tokens for reply in replies], torch.tensor(logprobs, dtype=torch.float64)


@pytest.mark.parametrize(("backbone", "gate", "bridge", "lossy"), CASES)
def test_recorded_steps_say_what_pytorch_says(
    backbone: str, gate: str, bridge: str, lossy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = tiny(backbone, gate, bridge, seed=3, dtype=torch.float64)
    graphs, steps = recorded()
    ours = engine_of(setup, GraphedRunner(FAST, graphs), monkeypatch)
    theirs = engine_of(setup, Runner(FAST), monkeypatch)
    for propagation in ("verify", lossy):
        (tokens, logprobs), (expected, wanted) = (
            said(each, requests(propagation)) for each in (ours, theirs)
        )
        assert tokens == expected
        torch.testing.assert_close(logprobs, wanted, rtol=1e-9, atol=1e-9)
    assert sum(step.replays for step in steps) > len(steps)


def test_bfloat16_and_no_exits(monkeypatch: pytest.MonkeyPatch) -> None:
    for backbone in ("llama", "mamba", "mamba2"):
        setup = tiny(backbone, "mamba", "none", seed=3, dtype=torch.bfloat16)
        graphs = graphs_on(torch.device("cpu"))
        runner = GraphedRunner(FAST, graphs)
        replies = engine_of(setup, runner, monkeypatch).generate_all(requests("verify"))
        assert all(len(reply.tokens) == LENGTH for reply in replies)
        with monkeypatch.context() as patch:
            patch.setattr(engine_module, "choose_runner", lambda *_, runner=runner: runner)
            assert setup.plain().generate(requests("verify")[0]).tokens


def test_what_has_no_static_step_is_named() -> None:
    def why(model: Model, exits: Sequence[Exit] = ()) -> str:
        return why_not_static(model, tuple(exits))

    setup = tiny("llama", "linear")
    assert why(setup.model, setup.exits) == ""
    assert why(tiny("gpt2").model) == "PlacedBlock has no static step"

    class Own(Linear):
        """May do anything."""

    next(iter(setup.exits)).gate.__class__ = Own
    assert why(setup.model, setup.exits) == "Own has no static step"


def test_graphs_are_chosen_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    setup, graphs = tiny("llama", "linear"), graphs_on(torch.device("cpu"))
    assert find_graphs(setup.model, tuple(setup.exits)) is None
    monkeypatch.setattr(runner_module, "find_graphs", lambda model, exits: graphs)
    for tier in ("exact", "fast"):
        runner = choose_runner(tier, setup.model, tuple(setup.exits))
        assert isinstance(runner, GraphedRunner) and runner.tier.name == "tolerance"
        assert runner.name == "static steps on cpu"  # times are kept by it
