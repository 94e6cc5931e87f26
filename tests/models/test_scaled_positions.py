"""Scaled rotary positions in models: config.json old and new, and decoding beyond the original context."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import transformers
from test_parity import close, step

from offramp.errors import CheckpointError
from offramp.models.checkpoint import load_model
from offramp.models.families import family_for

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
SCALED = [
    {"rope_type": "linear", "factor": 3.0},
    {"rope_type": "dynamic", "factor": 3.0},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    YARN,
    YARN | {"mscale": 0.9, "mscale_all_dim": 0.5, "truncate": False, "beta_fast": 20},
]


def config_of(**fields: Any) -> Any:
    sizes = dict(
        hidden_size=32, num_attention_heads=4, intermediate_size=48, num_hidden_layers=1, vocab_size=9
    )
    family = family_for("llama")
    return family.config_from(sizes | dict(model_type="llama", max_position_embeddings=64) | fields)


@pytest.mark.parametrize("rope", SCALED, ids=lambda rope: rope["rope_type"])
def test_old_and_new_fields_mean_the_same_and_survive(rope: dict[str, Any]) -> None:
    new = config_of(rope_parameters=rope | {"rope_theta": 77.0})
    spelled = {key: value for key, value in rope.items() if key != "rope_type"}
    assert new == config_of(rope_theta=77.0, rope_scaling=spelled | {"type": rope["rope_type"]})
    assert new.scaling.factor == rope["factor"] and new.rope_theta == 77.0
    assert family_for("llama").config_from(family_for("llama").config_to(new)) == new


@pytest.mark.parametrize(
    ("scaling", "context"),
    [
        (None, 64),
        ({"type": "linear", "factor": 4.0}, 64),  # the field counts the longer context already
        ({"type": "dynamic", "factor": 4.0}, 256),  # the field is the original context
        ({"type": "yarn", "factor": 4.0}, 256),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}, 64),
    ],
)
def test_how_far_it_reaches(scaling: dict[str, Any] | None, context: int) -> None:
    assert config_of(rope_scaling=scaling).context_length == context


@pytest.mark.parametrize(
    ("scaling", "said"),
    [
        ({"rope_type": ["linear"]}, "not supported"),
        (YARN | {"beta_slow": 1e-320}, "beta_slow"),  # would be an infinite pair of dimensions
        (YARN | {"attention_factor": 1e-320}, "attention_factor"),
    ],
)
def test_what_no_angle_can_be_made_of(scaling: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        config_of(rope_scaling=scaling)


@pytest.mark.parametrize("rope", SCALED[:4], ids=lambda rope: rope["rope_type"])
@torch.inference_mode()
def test_token_by_token_beyond_the_original_context(rope: dict[str, Any], tmp_path: Path) -> None:
    """Of a dynamic scaling their whole-sequence pass gives every token the last one's base; decoding does not."""
    tiny.make("llama", tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    raw |= {"max_position_embeddings": 16, "rope_parameters": rope | {"rope_theta": 500.0}}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    ours, tokens = load_model(tmp_path), tiny.tokens(1, 40)
    states = [block.mixer.init_state(1, 64) for block in ours.blocks]
    pieces = [step(ours, states, piece) for piece in tokens.split([10, 3, 1, 16, 10], dim=1)]
    given = theirs(tokens[:, :10], use_cache=True)
    expected = [given.logits]
    for t in range(10, 40):
        given = theirs(tokens[:, t : t + 1], use_cache=True, past_key_values=given.past_key_values)
        expected.append(given.logits)
    close(torch.cat(pieces, dim=1), torch.cat(expected, dim=1))
    close(ours(tokens), torch.cat(expected, dim=1))
