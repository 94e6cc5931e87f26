"""Bytes and FLOPs against numbers computed by hand, against PyTorch's counter, and through whole runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from offramp import registry
from offramp.engine.engine import Engine
from offramp.engine.request import Request
from offramp.errors import UsageError
from offramp.evaluation.cost import Cost, part_costs, run_cost
from offramp.evaluation.leaving import leaving_costs
from offramp.exits.base import ExitConfig
from offramp.exits.exit_set import ExitSet, build_exits
from offramp.exits.untrained import untrained_exits
from offramp.models.base import Model
from offramp.models.families import family_for
from offramp.models.initial import init_weights
from offramp.models.shapes import shapes_only
from offramp.ops.attention_cached import TILE
from offramp.propagation.copy_block import CopyBlock

# Llama: D = 16, H = 4 heads of K = 8, G = 2, MLP of 20. Mamba-2: E = 32 = 2 heads of 16, N = 8, W = 4. V = 30.
COMMON: dict[str, Any] = dict(vocab_size=30, hidden_size=16, num_hidden_layers=8, max_position_embeddings=64)
LLAMA = COMMON | dict(
    model_type="llama",
    intermediate_size=20,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    rms_norm_eps=1e-5,
    hidden_act="silu",
    tie_word_embeddings=False,
)
MAMBA2 = COMMON | dict(
    model_type="mamba2", expand=2, num_heads=2, head_dim=16, state_size=8, n_groups=1, conv_kernel=4
)
QO, KV, MLP = 2 * 16 * 32, 2 * 16 * 16, 3 * 16 * 20
Z, XBC_DT, OUT, CONV = 16 * 32, 16 * (32 + 2 * 8 + 2), 32 * 16, 48 * 5  # the convolution has a bias
F32 = 4


def model_of(raw: dict[str, Any]) -> Model:
    family = family_for(raw["model_type"])
    return init_weights(family.build(family.config_from(raw)), seed=0).eval()


def exits_of(gate: str = "linear", bridge: str = "none") -> ExitSet:
    return build_exits(ExitConfig(gate, bridge, (2, 4, 6), 16, 1e-5, bottleneck=4)).eval()


def test_llama_by_hand() -> None:
    for context in (0, 5, 40):
        block = part_costs(model_of(LLAMA), context=context)["blocks.3"]
        entries = 2 * 2 * 8  # keys and values of one token
        assert block["run"].weight_bytes == F32 * (QO + KV + MLP + 2 * 16)
        assert block["run"].flops == 2 * (QO + KV + MLP) + 4 * 4 * 8 * (context + 1)
        assert block["run"].state_bytes >= F32 * entries * (context + 1)
        assert block["advance"].weight_bytes == F32 * (KV + 16)
        assert block["advance"].flops == 2 * KV
        for verb in ("copy_entries", "repeat_entry") if context else ("copy_entries",):
            assert block[verb].weight_bytes == block[verb].flops == 0
            assert F32 * 2 * entries <= block[verb].state_bytes < F32 * 4 * entries


def test_mamba2_by_hand() -> None:
    """`advance` leaves out z's rows, D, the gated norm and out_proj; what remains does not grow with the context."""
    costs = part_costs(model_of(MAMBA2))
    assert costs == part_costs(model_of(MAMBA2), context=700)
    block = costs["blocks.3"]
    assert block["run"].weight_bytes == F32 * (Z + XBC_DT + OUT + CONV + 3 * 2 + 32 + 16)
    assert block["run"].flops == 2 * (Z + XBC_DT + OUT)
    assert block["advance"].weight_bytes == F32 * (XBC_DT + CONV + 2 * 2 + 16)
    assert block["advance"].flops == 2 * XBC_DT
    state = F32 * (2 * 16 * 8)  # read, and written as the other of two; the window and the ring are less
    assert 2 * state < block["advance"].state_bytes == block["run"].state_bytes < 4 * state
    assert set(block) == {"run", "advance"}, "a copy costs a Mamba block nothing"
    assert costs["head"]["run"] == Cost(F32 * (30 * 16 + 16), 0, 2 * 30 * 16, costs["head"]["run"].pointwise)


def test_a_windows_cost_is_bounded() -> None:
    """By the window and a tile: reading begins at a tile's first entry."""
    windowed = model_of(LLAMA | dict(model_type="mistral", sliding_window=7, max_position_embeddings=4096))
    costs = [part_costs(windowed, context=context)["blocks.0"]["run"] for context in (100, 300, 1000)]
    assert max(cost.flops for cost in costs) <= 2 * (QO + KV + MLP) + 4 * 4 * 8 * (7 + TILE)


@pytest.mark.parametrize("raw", [LLAMA, MAMBA2], ids=["llama", "mamba2"])
def test_products_are_those_pytorch_counts(raw: dict[str, Any]) -> None:
    """A whole sequence. PyTorch counts neither the CPU's fused attention nor our elementwise SSM update."""
    model, tokens = model_of(raw), 12
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, tokens, dtype=torch.long))
    costs = part_costs(model, context=tokens - 1)
    ours = tokens * sum(part["run"].flops for part in costs.values())
    counted, aten = counter.get_flop_counts()["Global"], torch.ops.aten
    maps = sum(count for op, count in counted.items() if op in (aten.mm, aten.addmm))
    attention = 8 * 4 * (4 * 8) * tokens * tokens if raw is LLAMA else 0
    assert ours == maps + attention


@pytest.mark.parametrize(
    ("propagation", "raw", "per_left"),
    [
        ("project", MAMBA2, (F32 * (XBC_DT + CONV + 2 * 2 + 16), 2 * XBC_DT)),
        ("skip", MAMBA2, (0, 0)),
        ("copy_token", MAMBA2, (0, 0)),
        ("project", LLAMA, (F32 * (KV + 16), 2 * KV)),
        ("copy_block", LLAMA, (0, 0)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_run_by_hand(propagation: str, raw: dict[str, Any], per_left: tuple[int, int]) -> None:
    """After the prompt's token, three leave after 2 of 8 blocks, one reaches the end, and so on: 6 and 2 of 8."""
    model, exits = model_of(raw), exits_of()
    request = Request((3, 1, 4), propagation, "always", run_max=3, max_tokens=9, ignore_eos=True)
    stats = Engine(model, exits, max_len=64).generate(request).stats
    costs = part_costs(model, exits)
    total = run_cost(stats, costs)
    block, head = costs["blocks.0"]["run"], costs["head"]["run"]
    gate_weights = 16 + 16 + 1  # norm, one row, its bias
    weights, flops = per_left
    runs, gates = 6 * 2 + 2 * 8, 8 + 2 + 2
    assert total.weight_bytes == (
        runs * block.weight_bytes + 6 * 6 * weights + gates * F32 * gate_weights + 9 * head.weight_bytes
    )
    assert total.flops == runs * block.flops + 6 * 6 * flops + gates * 2 * 16 + 9 * head.flops
    assert stats.copies == (36 if propagation == "copy_block" else 0)
    assert stats.advances == (36 if propagation == "project" else 0)


def test_chunks_read_weights_once() -> None:
    """`verify` computes more and reads less where drafts are accepted: deep blocks that change nothing."""
    model, exits = model_of(MAMBA2), exits_of("mamba", "lens")
    for block in model.blocks[2:]:
        nn.init.zeros_(block.mixer.out_proj.weight)
    request = Request((3, 1, 4), "verify", "always", run_max=3, max_tokens=9, ignore_eos=True)
    drafted = Engine(model, exits, max_len=64).generate(request)
    plain = Engine(model, None, max_len=64).generate(request)
    costs = part_costs(model, exits)
    assert drafted.tokens == plain.tokens and drafted.stats.accepted == drafted.stats.drafts > 0
    assert run_cost(drafted.stats, costs).weight_bytes < run_cost(plain.stats, costs).weight_bytes
    assert run_cost(drafted.stats, costs).flops > run_cost(plain.stats, costs).flops
    assert costs["exits.0.gate"]["run"].flops > costs["exits.0.gate"]["advance"].flops > 0


def test_a_model_without_numbers_has_the_same_costs() -> None:
    """On the meta device nothing is ever allocated, so a model of any size can be asked."""
    with torch.device("meta"):
        family = family_for("llama")
        empty = family.build(family.config_from(LLAMA))
    assert part_costs(empty, context=9) == part_costs(model_of(LLAMA), context=9)


def test_leaving_by_hand() -> None:
    """8 blocks; every exit before the one that lets go has been asked, and the deeper ones where the token waits.
    Drafts leave the first exit alone."""
    model, exits = model_of(LLAMA), exits_of()
    costs, found = part_costs(model, exits, 5), leaving_costs(model, exits, context=5)
    block, head, gate = costs["blocks.0"]["run"], costs["head"]["run"], costs["exits.0.gate"]["run"]
    assert found.full == block.times(8, 8) + head and list(found.after) == [2, 4, 6]
    for asked, (after, cost) in enumerate(found.after.items(), start=1):
        assert set(cost) == set(registry.names("offramp.propagation"))
        through = block.times(after, after) + gate.times(asked, asked) + head
        deeper = 8 - after
        assert cost["skip"] == through
        assert cost["project"] == through + costs["blocks.0"]["advance"].times(deeper, deeper)
        assert cost["copy_block"] == through + costs["blocks.0"]["copy_entries"].times(deeper, deeper)
        assert cost["copy_token"] == through + costs["blocks.0"]["repeat_entry"].times(deeper, deeper)
        later = through + block.times(0, deeper) + gate.times(0, 3 - asked)
        assert cost["defer"] == later
        assert cost["verify"] == (later + head.times(0, 1) if asked == 1 else None)


@pytest.mark.parametrize("raw", [LLAMA, MAMBA2], ids=["llama", "mamba2"])
@pytest.mark.parametrize(("gate", "bridge"), [("mamba", "lens"), ("linear", "last_block")])
def test_leaving_is_what_the_engine_does(raw: dict[str, Any], gate: str, bridge: str) -> None:
    """Deeper blocks change nothing, so that drafts are accepted."""
    model, exits = model_of(raw), exits_of(gate, bridge)
    for name, weight in model.blocks[2:].named_parameters():
        if name.endswith(("out_proj.weight", "o_proj.weight", "down_proj.weight")):
            nn.init.zeros_(weight)
    engine, costs = Engine(model, exits, max_len=64), part_costs(model, exits)

    def spent(propagation: str, policy: str, tokens: int) -> Cost:
        request = Request((3, 1, 4), propagation, policy, run_max=1, max_tokens=tokens, ignore_eos=True)
        stats = engine.generate(request).stats
        assert stats.accepted == stats.drafts == (propagation == "verify" and policy == "always")
        return run_cost(stats, costs)

    for propagation, cost in leaving_costs(model, exits).after[2].items():
        assert cost == spent(propagation, "always", 3) - spent(propagation, "never", 2), propagation


def test_a_propagation_that_does_not_serve_has_no_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(*_: object) -> None:
        raise UsageError("not these blocks")

    monkeypatch.setattr(CopyBlock, "check", check)
    found = leaving_costs(model_of(MAMBA2), exits_of()).after[2]
    assert [name for name, cost in found.items() if cost is None] == ["copy_block"]


def test_leaving_a_published_size() -> None:
    """Seven billion parameters by their shapes alone: Mistral's, then Mamba-Codestral's."""
    mistral = dict(vocab_size=32768, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32)
    heads = dict(num_attention_heads=32, num_key_value_heads=8, head_dim=128)
    codestral = dict(vocab_size=32768, hidden_size=4096, num_hidden_layers=64, num_heads=128, head_dim=64)
    wide = dict(state_size=128, n_groups=8)
    for raw, blocks in ((LLAMA | mistral | heads, 32), (MAMBA2 | codestral | wide, 64)):
        family = family_for(raw["model_type"])
        with shapes_only():
            model = family.build(family.config_from(raw | {"tie_word_embeddings": False}))
        found = leaving_costs(model, untrained_exits((blocks // 4,), blocks, 4096), context=2048)
        weights = sum(weight.numel() for weight in model.parameters()) - 32768 * 4096
        assert 7.0e9 < weights < 7.4e9 and found.full.weight_bytes == F32 * weights
        cost = found.after[blocks // 4]
        skip, project, verify = (cost[name] for name in ("skip", "project", "verify"))
        assert skip and project and verify
        assert skip.weight_bytes == verify.weight_bytes < project.weight_bytes < found.full.weight_bytes
        assert skip.flops < project.flops < found.full.flops < verify.flops
