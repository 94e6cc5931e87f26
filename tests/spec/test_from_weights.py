"""What `test_transformers.py` cannot show: gates, tied heads, and what is refused."""

import pytest
import torch
from torch import Tensor

from .from_weights import (
    attention_from_weights,
    gate_from_weights,
    mamba2_mixer_from_weights,
    mamba_from_weights,
)
from .mixers import Mixer, fresh

D, R = 6, 4
CONFIG = {"num_attention_heads": 2, "rope_theta": 10_000.0, "n_groups": 1, "layer_norm_epsilon": 1e-5}


def random_weights(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    """Names with __ for each dot."""
    generator = torch.Generator().manual_seed(0)
    return {
        name.replace("__", "."): torch.randn(shape, generator=generator) for name, shape in shapes.items()
    }


NARROW = {
    "norm__weight": (D,),
    "down__weight": (R, D),
    "down__bias": (R,),
    "out__weight": (1, R),
    "out__bias": (1,),
}
ATTENTION = {f"mixer__{name}_proj__weight": (R, R) for name in "qkvo"}
MAMBA2 = {
    "mixer__in_proj__weight": (4 + 8 + 2, R),
    "mixer__conv1d__weight": (8, 1, 4),
    "mixer__dt_bias": (2,),
    "mixer__A_log": (2,),
    "mixer__D": (2,),
    "mixer__norm__weight": (4,),
    "mixer__out_proj__weight": (R, 4),
}


def test_a_linear_gate() -> None:
    weights = random_weights(out__weight=(1, D), out__bias=(1,))
    h_TD = torch.randn(3, D, dtype=torch.float64)
    expected = torch.sigmoid(h_TD[-1] @ weights["out.weight"][0].double() + weights["out.bias"][0].double())
    assert gate_from_weights(weights).run(h_TD, None, range(3)) == pytest.approx(expected.item(), abs=1e-14)


@pytest.mark.parametrize("kind", ["attention", "mamba2"])
def test_a_gate_with_memory(kind: str) -> None:
    """The bottleneck is normed and narrowed before the mixer, whose output is added to what it reads."""
    weights = random_weights(**NARROW, **(ATTENTION if kind == "attention" else MAMBA2))
    read = attention_from_weights if kind == "attention" else mamba2_mixer_from_weights
    mixer: Mixer = read(CONFIG, weights, "mixer.")
    gate = gate_from_weights(weights, mixer=mixer)
    h_TD = torch.randn(3, D, dtype=torch.float64)
    assert gate.norm is not None and gate.down is not None
    y_TR = gate.down(gate.norm(h_TD))
    y_TR = y_TR + mixer.chunk(y_TR, mixer.new_state(fresh, 8), range(3))
    expected = torch.sigmoid(gate.out(y_TR[-1])).item()
    assert gate.run(h_TD, mixer.new_state(fresh, 8), range(3)) == pytest.approx(expected, abs=1e-14)


def test_refusals_name_what_is_missing() -> None:
    weights = random_weights(**ATTENTION)
    with pytest.raises(ValueError, match="llama3"):
        attention_from_weights(CONFIG | {"rope_parameters": {"rope_type": "llama3"}}, weights, "mixer.")
    with pytest.raises(KeyError, match="layer_norm_epsilon"):
        mamba_from_weights({}, weights)
