"""Adding a plug-in is adding a file: nothing else is edited, and every test of the contract takes it by its name."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import test_grid
from checks import hold_to_contract

from offramp import registry
from offramp.engine.engine import Engine
from offramp.engine.request import Request
from offramp.errors import UnknownName
from offramp.models.families import family_for
from offramp.policies.base import ExitPolicy
from offramp.propagation.base import Propagation

AddFile = Callable[[str, str, str], None]

POLICIES, PROPAGATIONS = "offramp.policies", "offramp.propagation"
GATES, BRIDGES, FAMILIES = "offramp.exits.gates", "offramp.exits.bridges", "offramp.models.families"

SOURCES = {
    POLICIES: """
import torch
from offramp.policies.base import ExitPolicy

class EveryOther(ExitPolicy):
    '''Leaves for each token of even index, if the gate is above the threshold.'''
    def __call__(self, signal, memory):
        even_R = torch.tensor([index % 2 == 0 for index in signal.index])
        return even_R & (signal.gate_R > self.thresholds[signal.exit]), list(memory)
""",
    GATES: """
from offramp.exits.base import Gate
from offramp.mixers.attention import Attention

class Wide(Gate):
    def make_mixer(self, width):
        return Attention(width, heads=1)
""",
    BRIDGES: """
import torch
from torch import nn
from offramp.exits.base import Bridge

class Shifted(Bridge):
    def __init__(self, config):
        super().__init__(config)
        self.shift = nn.Parameter(torch.zeros(config.hidden_size))

    def hidden(self, h, y):
        return h + self.shift
""",
    PROPAGATIONS: """
from offramp.propagation.base import Propagation

class Forget(Propagation):
    '''The deepest layer alone hears of the token.'''
    def after_exit(self, stack, h_ND, rows, n):
        *between, deepest = (*stack.listeners, *stack.deeper)
        deepest.advance(h_ND, rows, n)
        for part in between:
            part.state.skip(rows, n)
""",
    FAMILIES: """
from torch import nn
from offramp.mixers.attention import Attention
from offramp.mixers.mamba2 import Mamba2
from offramp.models.base import Block, Family, Model, ModelConfig
from offramp.ops.norm import RMSNorm

class Alternating(Family):
    '''Attention without positions and Mamba-2 in turn.'''
    model_types = ("made_up",)

    def config_from(self, raw):
        return ModelConfig("made_up", raw["vocab_size"], raw["hidden_size"], raw["num_hidden_layers"],
                           raw["max_position_embeddings"], 1e-5, False, None, (0,))

    def config_to(self, config):
        return {"architectures": ["MadeUp"], "model_type": "made_up", "vocab_size": config.vocab_size,
                "hidden_size": config.hidden_size, "num_hidden_layers": config.num_blocks,
                "max_position_embeddings": config.context_length, "eos_token_id": 0}

    def build(self, config):
        width = config.hidden_size
        blocks = [
            Block(RMSNorm(width, 1e-5), Mamba2(width, head_dim=16, state=8) if i % 2 else
                  Attention(width, heads=2, rope=None), None, None)
            for i in range(config.num_blocks)
        ]
        embed, head = nn.Embedding(config.vocab_size, width), nn.Linear(width, config.vocab_size, bias=False)
        return Model(config, embed, blocks, RMSNorm(width, 1e-5), head)

    def weight_name(self, name):
        return name
""",
}


@pytest.mark.parametrize("folder", SOURCES)
def test_a_made_up_plug_in_keeps_the_contract(folder: str, add_file: AddFile, tmp_path: Path) -> None:
    """What the tests of the contract do for the files there are, they do for one more."""
    add_file(folder, "made_up", SOURCES[folder])
    assert "made_up" in registry.names(folder)
    assert hold_to_contract("made_up", tmp_path) >= (4 if folder != PROPAGATIONS else 0)


@pytest.mark.parametrize("folder", [GATES, BRIDGES, PROPAGATIONS, FAMILIES])
def test_a_made_up_plug_in_joins_the_grid(folder: str, add_file: AddFile) -> None:
    add_file(folder, "made_up", SOURCES[folder])
    place = [FAMILIES, GATES, BRIDGES, PROPAGATIONS].index(folder)
    few = [("mamba2",), ("linear",), ("none",), ("verify", "project")]
    for case in test_grid.sample(product(*few[:place], ("made_up",), *few[place + 1 :])):
        test_grid.check(*case)


def test_all_made_up_together(add_file: AddFile) -> None:
    for folder, source in SOURCES.items():
        add_file(folder, "made_up", source)
    setup = test_grid.tiny("made_up", "made_up", "made_up", seed=1)
    assert family_for("made_up").model_types == (setup.raw["model_type"],)
    request = Request((1, 2, 3), "made_up", "made_up", (0.0,), max_tokens=9, ignore_eos=True)
    reply = Engine(setup.model, setup.exits, max_len=64).generate(request)
    assert [event.depth for event in reply.events] == [8, 8, 2, 8, 2, 8, 2, 8, 2]


def test_names_lists_what_find_finds() -> None:
    for package, base in ((POLICIES, ExitPolicy), (PROPAGATIONS, Propagation)):
        for name in registry.names(package):
            assert issubclass(registry.find(package, name, base), base)


def test_unknown_name_says_what_there_is() -> None:
    with pytest.raises(UnknownName, match="unknown propagation 'verifi'. Did you mean 'verify'"):
        registry.find(PROPAGATIONS, "verifi", Propagation)
    with pytest.raises(UnknownName, match="unknown policy 'base'. Available: always"):
        registry.find(POLICIES, "base", ExitPolicy)
