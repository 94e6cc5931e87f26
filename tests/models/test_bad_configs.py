"""A config.json that says nonsense in one field is refused in our own words, or builds: never another exception."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from random_models import raw_config

from offramp.errors import CheckpointError
from offramp.models.families import family_for, model_types

NONSENSE: tuple[Any, ...] = (
    *(None, "x", [], {"a": 1}, ["attention"] * 3),
    *(-1, 0, 1 << 40, 10**400, float("nan")),
)


@pytest.mark.parametrize("model_type", model_types())
def test_nonsense_in_one_field(model_type: str) -> None:
    family, raw = family_for(model_type), raw_config(model_type)
    refused = 0
    for name in raw.keys() - {"model_type"}:
        for value in NONSENSE:
            try:
                with torch.device("meta"):
                    family.build(family.config_from(raw | {name: value}))
            except CheckpointError as error:
                assert str(error)
                refused += 1
    assert refused > len(NONSENSE), "several fields matter"
