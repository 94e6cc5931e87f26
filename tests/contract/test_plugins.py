"""Adding a plug-in is adding a file: nothing else is edited, and the engine takes it by its name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from offramp import registry
from offramp.engine.engine import Engine
from offramp.engine.sequence import Request
from offramp.errors import UnknownName
from offramp.exits.base import ExitConfig
from offramp.exits.exit_set import build_exits
from offramp.models.base import Model
from offramp.models.families import family_for
from offramp.models.initial import init_weights
from offramp.policies.base import ExitPolicy
from offramp.propagation.base import Propagation

AddFile = Callable[[str, str, str], None]


def model() -> Model:
    raw = {
        "model_type": "llama",
        "vocab_size": 30,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
    }
    family = family_for("llama")
    return init_weights(family.build(family.config_from(raw)), seed=0).eval()


SOURCES = {
    "offramp.policies": """
import torch
from offramp.policies.base import ExitPolicy

class EveryOther(ExitPolicy):
    '''Leaves for each token of even index.'''
    def __call__(self, signal, memory):
        return torch.tensor([index % 2 == 0 for index in signal.index]), list(memory)
""",
    "offramp.exits.gates": """
from offramp.exits.base import Gate
from offramp.mixers.attention import Attention

class Wide(Gate):
    def make_mixer(self, width):
        return Attention(width, heads=1)
""",
    "offramp.propagation": """
from offramp.propagation.skip import Skip as Base
from offramp.propagation.base import Propagation

class Forget(Propagation):
    def after_exit(self, stack, h_RTD, rows, n):
        Base().after_exit(stack, h_RTD, rows, n)
""",
}


def test_made_up_policy_gate_and_propagation(add_file: AddFile) -> None:
    for package, source in SOURCES.items():
        add_file(package, "made_up", source)
        assert "made_up" in registry.names(package)
    backbone = model()
    exits = build_exits(ExitConfig("made_up", "none", (2,), 16, 1e-5, bottleneck=8)).eval()
    request = Request((1, 2, 3), "made_up", "made_up", max_tokens=9, ignore_eos=True)
    with torch.inference_mode():
        depths = [event.depth for event in Engine(backbone, exits, max_len=64).generate(request).events]
    assert depths == [4, 4, 2, 4, 2, 4, 2, 4, 2]


def test_names_lists_what_find_finds() -> None:
    for package, base in (("offramp.policies", ExitPolicy), ("offramp.propagation", Propagation)):
        for name in registry.names(package):
            assert issubclass(registry.find(package, name, base), base)


def test_unknown_name_says_what_there_is() -> None:
    with pytest.raises(UnknownName, match="unknown propagation 'verifi'. Did you mean 'verify'"):
        registry.find("offramp.propagation", "verifi", Propagation)
    with pytest.raises(UnknownName, match="unknown policy 'base'. Available: always"):
        registry.find("offramp.policies", "base", ExitPolicy)
