"""Functions of whole vectors (math.h), seen through the activations, against float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from kernel_schedules import each_isa, library
from torch import Tensor

from offramp.native.emit.columns import columns
from offramp.native.emit.elementwise import elementwise
from offramp.native.program import Builder

Function = Callable[[Tensor], Tensor]
PRECISE: dict[str, Function] = {
    "sigmoid": torch.sigmoid,
    "silu": lambda x: x * torch.sigmoid(x),
    "softplus": lambda x: x.clamp(min=0) + torch.exp(-x.abs()).log1p(),
    "tanh": torch.tanh,
}
GELUS: dict[str, Function] = {
    "gelu": lambda x: 0.5 * x * torch.erfc(-x / 2**0.5),
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}
LIMITS = {
    "sigmoid": (0.0, 1.0),
    "silu": (0.0, torch.inf),
    "softplus": (0.0, torch.inf),
    "tanh": (-1.0, 1.0),
    "gelu": (0.0, torch.inf),
    "gelu_tanh": (0.0, torch.inf),
}


def apply(isa: str, name: str, x_N: Tensor) -> Tensor:
    to = Builder(library(isa, 1))
    x, out = to.register(len(x_N)), to.register(len(x_N))
    elementwise(to, columns(x), len(x_N), name, out=columns(out))
    return to.build(x, [out]).run(x_N[None], [0], [1])[0][0].clone()


def everywhere(least: float, most: float) -> Tensor:
    """Numbers of every size."""
    near = torch.logspace(-40, 0, 20_000, dtype=torch.float64)
    x = torch.cat((torch.linspace(least, most, 60_001, dtype=torch.float64), near, -near))
    return x.float()


@each_isa
@pytest.mark.parametrize("name", PRECISE)
def test_is_right_to_three_units_in_the_last_place(isa: str, name: str) -> None:
    """softplus far below zero is exp itself."""
    x = everywhere(-86, 100)
    expected = PRECISE[name](x.double())
    size = expected.abs().float()
    unit = (torch.nextafter(size, torch.tensor(torch.inf)) - size).double()
    assert ((apply(isa, name, x).double() - expected).abs() / unit).max() < 3


@each_isa
@pytest.mark.parametrize("name", GELUS)
def test_gelus_are_right_to_float32_of_the_larger_of_1_and_x(isa: str, name: str) -> None:
    x = everywhere(-20, 20)
    expected = GELUS[name](x.double())
    assert ((apply(isa, name, x).double() - expected).abs() / x.abs().clamp(min=1)).max() < 2e-7


@each_isa
@pytest.mark.parametrize("name", LIMITS)
def test_infinities_give_the_limits_and_nan_stays(isa: str, name: str) -> None:
    low, high = LIMITS[name]
    x = torch.tensor([-torch.inf, torch.inf, -3e38, 3e38, -2000, torch.nan, -torch.nan])
    out = apply(isa, name, x)
    assert out[0] == out[2] == out[4] == low and out[1] == high and out[3] in (3e38, high)
    assert out[5:].isnan().all()


@each_isa
@pytest.mark.parametrize("name", LIMITS)
def test_bits_do_not_depend_on_the_place(isa: str, name: str) -> None:
    x = everywhere(-30, 30)[::37]
    out = apply(isa, name, x)
    for cut in (1, 2, 5, 13):
        assert torch.equal(apply(isa, name, x[cut:]), out[cut:])
