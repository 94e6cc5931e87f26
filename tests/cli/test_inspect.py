"""`offramp inspect`: every parameter is counted once, and exits that do not fit say so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from offramp import registry
from offramp.models.checkpoint import save_model
from offramp.models.families import family_for
from offramp.models.initial import init_weights
from offramp.zoo import bundled


def test_parts_add_up_to_the_model(run: Any, checkpoint: Path) -> None:
    found = json.loads(run("inspect", checkpoint, "--json").out)
    assert sum(part["parameters"] for part in found["parts"]) == found["parameters"]
    assert sum(part["share"] for part in found["parts"]) == pytest.approx(1.0)
    assert (found["family"], found["blocks"], found["width"]) == ("llama", 4, 16)


def test_the_head_is_measured_in_blocks(run: Any, checkpoint: Path) -> None:
    found = json.loads(run("inspect", checkpoint, "--json").out)
    blocks = next(part["parameters"] for part in found["parts"] if part["name"] == "blocks")
    assert found["head_blocks"] == found["vocabulary"] * found["width"] / (blocks / found["blocks"])


def test_exits_are_described(run: Any, checkpoint: Path) -> None:
    [exits] = json.loads(run("inspect", checkpoint, "--json").out)["exits"]
    assert (exits["name"], exits["after"], exits["gate"], exits["label"]) == (
        "linear",
        [1, 2],
        "linear",
        "exact",
    )
    assert 0 < exits["gate_share"] < 0.1
    text = run("inspect", checkpoint).out
    assert "after 1" in text and "0.500" in text


def test_no_exits_says_how_to_train_them(run: Any, bare_checkpoint: Path) -> None:
    assert "offramp train" in run("inspect", bare_checkpoint).out


def test_foreign_exits_do_not_hide_the_rest(run: Any, bare_checkpoint: Path) -> None:
    broken = bare_checkpoint / "exits" / "broken"
    broken.mkdir(parents=True)
    (broken / "exits.json").write_text("{}")
    result = run("inspect", bare_checkpoint)
    assert result.code == 0 and "cannot be used" in result.out and "family" in result.out


def test_a_checkpoint_cannot_move_the_cursor(run: Any, checkpoint: Path, bare_checkpoint: Path) -> None:
    """Names and texts of somebody's exits folder go to the terminal."""
    good = json.loads((checkpoint / "exits/linear/exits.json").read_text())
    good["info"]["label"] = "\x1b[2Jlabel"
    good["info"]["metrics"] = {"after1": {"\x9b1mrow": 0.5}}
    foreign = {**good, "info": {**good["info"], "backbone": "\x1b]0;title\x07"}}
    for name, config in (("good\x1b[1m", good), ("foreign", foreign)):
        folder = bare_checkpoint / "exits" / name
        folder.mkdir(parents=True)
        (folder / "exits.json").write_text(json.dumps(config))
        shutil.copy(checkpoint / "exits/linear/model.safetensors", folder)
    for result in (run("inspect", bare_checkpoint), run("inspect", bare_checkpoint, "--json")):
        assert result.code == 0
        assert all(char.isprintable() or char == "\n" for char in result.out)


def test_a_bundled_model_goes_by_its_name(
    run: Any, bare_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(bare_checkpoint, bare_checkpoint.parent / "tiny-mamba2")
    monkeypatch.setattr(bundled, "HOME", bare_checkpoint.parent)
    assert "family" in run("inspect", "tiny-mamba2").out


def test_what_a_block_is_made_of(run: Any, checkpoint: Path) -> None:
    """Heads, key-value heads, rotary positions; and what the engine keeps of a sequence."""
    [kind] = json.loads(run("inspect", checkpoint, "--json").out)["kinds"]
    assert (kind["mixer"], kind["numbers"]) == ("attention", [0, 1, 2, 3])
    assert kind["facts"] == {"heads": "2", "kv heads": "1", "head dim": "8", "rope": "theta 10000"}
    entries, numbers = 128, 2 * 8  # the context and a run, in whole tiles; a key and a value
    assert kind["state_bytes"] == entries * (numbers * 4 + 8) and kind["state_grows"]  # 8: a position
    assert 0 < kind["mlp_share"] < 1
    text = run("inspect", checkpoint).out
    assert "4 of attention" in text and "a sequence of 64 tokens" in text and "kv heads 1" in text


def test_what_leaving_costs(run: Any, checkpoint: Path) -> None:
    """Of the checkpoint's own exits, at each of them; the table shows the first."""
    leaving = json.loads(run("inspect", checkpoint, "--json").out)["leaving"]
    assert (leaving["exits"], leaving["gate"], leaving["context"]) == ("linear", "linear", 32)
    full, after = leaving["costs"]["full"], leaving["costs"]["after"]
    assert list(after) == ["1", "2"]
    for cost in after.values():
        assert list(cost) == registry.names("offramp.propagation")
        assert cost["skip"]["weight_bytes"] < cost["project"]["weight_bytes"] < full["weight_bytes"]
    assert full["flops"] < after["1"]["verify"]["flops"] and after["2"]["verify"] is None, (
        "drafts leave first"
    )
    text = run("inspect", checkpoint).out
    assert "a token that leaves after 1 of 4 blocks" in text and "exits: linear" in text
    [row] = [line for line in text.splitlines() if line.startswith("skip ")]
    assert f"{after['1']['skip']['flops'] / full['flops']:.0%}" in row.split()


def test_leaving_without_exits(run: Any, bare_checkpoint: Path) -> None:
    leaving = json.loads(run("inspect", bare_checkpoint, "--json").out)["leaving"]
    assert leaving["exits"] == "untrained" and list(leaving["costs"]["after"]) == ["1", "2", "3"]
    assert "exits: untrained" in run("inspect", bare_checkpoint).out


def test_nothing_leaves_a_single_block(run: Any, tmp_path: Path) -> None:
    family = family_for("bamba")
    config = family.config_from(hybrid() | dict(num_hidden_layers=1, attn_layer_indices=[]))
    save_model(init_weights(family.build(config), 0), tmp_path)
    assert json.loads(run("inspect", tmp_path, "--json").out)["leaving"] is None
    assert "a token that leaves" not in run("inspect", tmp_path).out


def hybrid(**changed: Any) -> dict[str, Any]:
    return dict(
        model_type="bamba",
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        attn_layer_indices=[1],
        mamba_n_heads=2,
        mamba_d_state=8,
        max_position_embeddings=64,
        **changed,
    )


def test_a_hybrid_shows_its_kinds(run: Any, tmp_path: Path) -> None:
    scaled = {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5, "partial_rotary_factor": 0.5}
    family = family_for("bamba")
    config = family.config_from(hybrid(rope_parameters=scaled))
    save_model(init_weights(family.build(config), 0), tmp_path)
    text = run("inspect", tmp_path).out
    assert "4: 3 mamba2, 1 attention" in text and "0 2-3" in text
    for fact in ("state 8", "theta 500000", "share 0.5", "linear", "factor 4"):
        assert fact in " ".join(text.split())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (dict(model_type="mixtral", num_local_experts=8), "experts"),
        (dict(model_type="qwen3_moe", num_experts=128), "experts"),
        (dict(model_type="deepseek_v3", kv_lora_rank=512, n_routed_experts=256), "latent attention"),
        (dict(model_type="llava", vision_config={"hidden_size": 1024}), "vision"),
        (dict(model_type="llama", num_local_experts=8), "experts"),
        (dict(model_type="bamba", num_experts=16), "experts"),
        (dict(model_type="t5"), "unsupported model family: unknown model_type 't5'"),
    ],
)
def test_what_is_not_supported_is_named(run: Any, tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    """One line, before any weight is looked for."""
    (tmp_path / "config.json").write_text(json.dumps(hybrid() | fields))
    result = run("inspect", tmp_path)
    assert result.code == 1 and not result.out and said in result.err
    assert len(result.err.strip().splitlines()) == 1
