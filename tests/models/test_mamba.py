"""Mamba-1's and FalconMamba's config.json, and what is said of the original repositories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny

from offramp.errors import CheckpointError
from offramp.models.checkpoint import load_model
from offramp.models.families import family_for

RAW: dict[str, Any] = {"model_type": "mamba", "vocab_size": 50, "hidden_size": 40, "num_hidden_layers": 2}


def config(**fields: Any) -> Any:
    raw = RAW | fields
    return family_for(raw["model_type"]).config_from(raw)


def test_what_a_short_config_means() -> None:
    """The defaults of transformers; published ones say little more, and nothing of tied weights."""
    read = config()
    assert (read.inner, read.rank, read.state_size, read.taps) == (80, 3, 16, 4)
    assert read.tie_embeddings and read.conv_bias and not read.bias and read.residual_in_fp32
    assert (read.norm_eps, read.mixer_rms_eps) == (1e-5, None)
    assert config(model_type="falcon_mamba").mixer_rms_eps == 1e-6
    assert config(time_step_rank="auto").rank == config(time_step_rank=None).rank == 3


def test_expand_only_stands_in_for_the_inner_width() -> None:
    assert config(expand=4).inner == 160
    assert config(expand=16, intermediate_size=80).inner == 80


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hidden_act": "gelu"}, ["hidden_act", "'gelu'", "'silu'"]),
        ({"time_step_rank": "half"}, ["time_step_rank", "'half'"]),
        ({"time_step_rank": 0}, ["time_step_rank", "0"]),
        ({"state_size": 1 << 20}, ["state_size", "1 to 1024"]),
        ({"conv_kernel": 0}, ["conv_kernel", "1 to 1024"]),
        ({"intermediate_size": 80.5}, ["intermediate_size", "80.5"]),
        ({"use_bias": "no"}, ["use_bias", "'no'"]),
        ({"model_type": "falcon_mamba", "mixer_rms_eps": -1}, ["mixer_rms_eps", "-1"]),
    ],
)
def test_odd_configs_are_refused_by_name(fields: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(CheckpointError) as error:
        config(**fields)
    assert all(word in str(error.value) for word in words)


def test_the_rank_must_be_that_of_the_weights(tmp_path: Path) -> None:
    tiny.make("mamba", tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"time_step_rank": 5}))
    with pytest.raises(CheckpointError, match="dt_proj.*config.json asks for"):
        load_model(tmp_path)


# The files of the original repositories, as they are but for their empty fields.
ORIGINAL = {"vocab_size": 50277, "ssm_cfg": {}, "rms_norm": True, "residual_in_fp32": True}


@pytest.mark.parametrize(
    ("sizes", "instead"),
    [
        ({"d_model": 768, "n_layer": 24}, "state-spaces/mamba-130m-hf"),
        ({"d_model": 2048, "n_layer": 48}, "state-spaces/mamba-1.4b-hf"),
        ({"d_model": 2560, "n_layer": 64}, "state-spaces/mamba-2.8b-hf"),
        ({"d_model": 99, "n_layer": 3}, "such as state-spaces/mamba-130m-hf"),
        ({"d_model": [], "n_layer": {}}, "such as state-spaces/mamba-130m-hf"),
        ({"d_model": 768, "n_layer": 24, "ssm_cfg": {"layer": "Mamba2"}}, "AntonV/mamba2-130m-hf"),
    ],
)
def test_an_original_repository_is_told_its_twin(tmp_path: Path, sizes: dict[str, Any], instead: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(ORIGINAL | sizes))
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(CheckpointError, match="original Mamba code.*pickles") as error:
        load_model(tmp_path)
    assert instead in str(error.value)
