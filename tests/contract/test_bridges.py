"""Every bridge in its folder, as the engine relies on it: alone, and where it reads the gate's trunk."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from offramp import registry
from offramp.errors import UnknownName, UsageError
from offramp.exits.base import Bridge, BridgeConfig, Exit, ExitConfig
from offramp.exits.exit_set import build_exits
from offramp.mixers.attention import Attention
from offramp.mixers.base import State
from offramp.mixers.identity import Identity

WIDTH, LENGTH = 24, 14
SETTINGS = {
    "rank": [BridgeConfig(rank=4)],
    "width": [BridgeConfig(width=16)],
    "mixer": [BridgeConfig(width=16, mixer=name) for name in registry.names("offramp.exits.mixers")],
}


def cases() -> list[tuple[str, BridgeConfig]]:
    """Every bridge with each of the settings it reads, or none; `block` also on the gate's trunk."""
    found = {}
    for name in registry.names("offramp.exits.bridges"):
        reads = registry.find("offramp.exits.bridges", name, Bridge).reads
        for settings in [one for field in reads for one in SETTINGS[field]] or [BridgeConfig()]:
            found[name, settings] = None
    return [*found, ("block", BridgeConfig(mixer="gate"))]


CASES = pytest.mark.parametrize(
    ("name", "settings"), cases(), ids=lambda value: getattr(value, "mixer", value)
)


def exit_with(name: str, settings: BridgeConfig, gate: str = "mamba", drawn: bool = True) -> Exit:
    """In float64; drawn: every weight random, as after training."""
    config = ExitConfig(gate, name, (1,), WIDTH, 1e-5, bottleneck=16, bridge_config=settings)
    [exit] = build_exits(config, seed=1).double().eval()
    if drawn:
        torch.manual_seed(2)
        for value in exit.parameters():
            torch.nn.init.normal_(value, std=0.3)
    return exit


def states(exit: Exit) -> tuple[State, State]:
    return exit.gate.mixer.init_state(2, 32), exit.bridge.mixer.init_state(2, 32)


def hidden(rows: int = 1, tokens: int = LENGTH) -> Tensor:
    return torch.randn(rows, tokens, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def push(exit: Exit, both: tuple[State, State], h_ND: Tensor, keep: int | None = None) -> Tensor:
    """Run a chunk in slot 1 and commit the first `keep` tokens (default: all); what the head reads."""
    _, bridged_ND = exit(h_ND, *both, [1], [len(h_ND)])
    for part, state in zip((exit.gate, exit.bridge), both, strict=True):
        if not isinstance(part.mixer, Identity):
            part.mixer.commit(state, [1], [len(h_ND) if keep is None else keep])
    return bridged_ND


@CASES
@torch.inference_mode()
def test_identity_before_training(name: str, settings: BridgeConfig) -> None:
    """Bit for bit: a bridge that has learned nothing is no bridge."""
    exit = exit_with(name, settings, drawn=False).float()
    h_RTD = hidden(2).float()
    assert torch.equal(exit(h_RTD)[1], h_RTD)


@CASES
@torch.inference_mode()
def test_whole_sequence_equals_prompt_cell_and_chunks(name: str, settings: BridgeConfig) -> None:
    exit, h_RTD = exit_with(name, settings), hidden()
    _, whole_RTD = exit(h_RTD)
    assert whole_RTD.shape == h_RTD.shape
    both = states(exit)
    for part, state in zip((exit.gate, exit.bridge), both, strict=True):
        part.prefill(h_RTD[:, :5], state, [1])
    pieces = [push(exit, both, h_RTD[0, start:stop]) for start, stop in ((5, 6), (6, 10), (10, LENGTH))]
    torch.testing.assert_close(torch.cat(pieces), whole_RTD[0, 5:], atol=1e-9, rtol=1e-7)


@CASES
@torch.inference_mode()
def test_rows_that_share_a_call_are_as_alone(name: str, settings: BridgeConfig) -> None:
    """Bit for bit, 16 tokens a call as in the exact tier: at other places, beside another row, before padding."""
    exit, (both_ND, padding_ND) = exit_with(name, settings).float(), hidden(2, 16).float()
    padding_ND[:] = math.nan
    mine_ND, others_ND = both_ND.split([9, 7])
    single = exit(torch.cat((mine_ND, padding_ND[:7])), *states(exit), [1], [9])
    company = exit(torch.cat((others_ND, mine_ND)), *states(exit), [0, 1], [7, 9])
    for alone, together in zip(single, company, strict=True):
        assert torch.equal(together[7:], alone[:9])


@CASES
@torch.inference_mode()
def test_tokens_taken_back_were_never_seen(name: str, settings: BridgeConfig) -> None:
    exit, [h_ND] = exit_with(name, settings), hidden(tokens=9)
    straight, turned = states(exit), states(exit)
    push(exit, straight, h_ND[:4])
    push(exit, turned, torch.cat((h_ND[:4], h_ND[6:])), keep=4)  # three of them rejected
    assert torch.equal(push(exit, straight, h_ND[4:]), push(exit, turned, h_ND[4:]))


@CASES
@torch.inference_mode()
def test_advance_leaves_the_state_that_forward_leaves(name: str, settings: BridgeConfig) -> None:
    """What `project` gives listeners beyond an exit."""
    exit, [h_ND] = exit_with(name, settings), hidden(tokens=8)
    heard, advanced = states(exit), states(exit)
    push(exit, heard, h_ND[:4])
    for part, state in zip((exit.gate, exit.bridge), advanced, strict=True):
        part.advance(h_ND[:4], state, [1], [4])
        part.mixer.commit(state, [1], [4])
    torch.testing.assert_close(push(exit, heard, h_ND[4:]), push(exit, advanced, h_ND[4:]))


@CASES
def test_every_parameter_learns(name: str, settings: BridgeConfig) -> None:
    """Once the way back to the hidden state is no longer zero."""
    exit = exit_with(name, settings).train()
    exit(hidden(2).requires_grad_())[1].square().sum().backward()
    parts = exit.named_parameters() if exit.bridge.reads_gate else exit.bridge.named_parameters()
    still = [key for key, value in parts if value.grad is None or not value.grad.any()]
    assert still == (["gate.out.weight", "gate.out.bias"] if exit.bridge.reads_gate else [])


@CASES
@torch.inference_mode()
def test_runs_in_bfloat16_on_a_float32_stream(name: str, settings: BridgeConfig) -> None:
    """As under `--dtype bf16` with config.json's residual_in_fp32."""
    exit = copy.deepcopy(exit_with(name, settings)).to(torch.bfloat16)
    gate_N, bridged_ND = exit(hidden(tokens=16)[0].float(), *states(exit), [0], [3])
    assert torch.isfinite(gate_N[:3]).all() and torch.isfinite(bridged_ND[:3]).all()


@pytest.mark.parametrize("gate", ["mamba", "transformer"])
@torch.inference_mode()
def test_a_shared_trunk_is_the_gate_s(gate: str) -> None:
    """The same numbers as from a trunk of its own with the gate's weights, with one state instead of two."""
    shared = exit_with("block", BridgeConfig(mixer="gate"), gate)
    mixer = {"mamba": "mamba", "transformer": "attention"}[gate]
    apart = exit_with("block", BridgeConfig(width=16, mixer=mixer), gate)
    trunk = {key: value for key, value in shared.gate.state_dict().items() if not key.startswith("out.")}
    apart.gate.load_state_dict(shared.gate.state_dict())
    apart.bridge.load_state_dict(trunk | shared.bridge.state_dict())
    h_RTD = hidden()
    for mine, other in zip(shared(h_RTD), apart(h_RTD), strict=True):
        assert torch.equal(mine, other)
    assert isinstance(shared.bridge.mixer, Identity) and set(shared.bridge.state_dict()) == {
        "up.weight",
        "up.bias",
    }


def test_a_mixer_of_ones_own_is_one_file(add_file: Callable[[str, str, str], None]) -> None:
    add_file(
        "offramp.exits.mixers",
        "made_up",
        "from offramp.mixers.attention import Attention\ndef mixer(width): return Attention(width, heads=1)\n",
    )
    mixer = exit_with("block", BridgeConfig(width=16, mixer="made_up")).bridge.mixer
    assert isinstance(mixer, Attention) and (mixer.heads, mixer.head_dim) == (1, 16)


@pytest.mark.parametrize(
    ("gate", "bridge", "settings", "error", "words"),
    [
        ("linear", "block", {"mixer": "gate"}, UsageError, "no trunk that a bridge could share"),
        ("mlp", "block", {"mixer": "gate"}, UsageError, "share that of gate 'mamba' or 'transformer'"),
        ("mamba", "block", {"mixer": "atention"}, UnknownName, "Did you mean 'attention'"),
        ("mamba", "block", {"width": 17, "mixer": "attention"}, UsageError, "an even width, not 17"),
        (
            "mamba",
            "block",
            {"rank": 3},
            UsageError,
            "'block' has no rank to set to 3: it reads width and mixer",
        ),
        ("mamba", "lens", {"mixer": "gate"}, UsageError, "'lens' has no mixer .*: it reads rank"),
        ("mamba", "none", {"width": 3}, UsageError, "'none' has no width .*: it has no settings"),
        ("mamba", "lens", {"rank": 0}, UsageError, "bridge rank must be an integer from 1"),
        ("mamba", "block", {"width": True}, UsageError, "bridge width must be an integer from 1"),
        ("mamba", "block", {"mixer": 3}, UsageError, "bridge mixer must be a name"),
    ],
)
def test_mistakes(gate: str, bridge: str, settings: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        build_exits(ExitConfig(gate, bridge, (1,), WIDTH, 1e-5, bridge_config=BridgeConfig(**settings)))
