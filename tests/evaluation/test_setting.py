"""A setting is everything of a request that is not its prompt."""

from __future__ import annotations

from dataclasses import fields

import pytest

from offramp.engine.request import Request, Sampling
from offramp.errors import UsageError
from offramp.evaluation.setting import FULL, Setting


def test_every_field_but_the_name_is_the_request_s() -> None:
    strange = Setting("x", "skip", "margin", (0.25, 0.75), 3, Sampling(temperature=0.5, seed=9))
    request = strange.request([4, 5], 6, ["\n"])
    for field in fields(Setting):
        if field.name != "name":
            assert getattr(request, field.name) == getattr(strange, field.name) != getattr(FULL, field.name)
    assert (request.prompt, request.max_tokens, request.stop) == ((4, 5), 6, ("\n",))


def test_its_defaults_are_the_request_s() -> None:
    assert Setting("plain").request((1,), 128) == Request((1,))


def test_what_a_request_refuses_is_refused() -> None:
    with pytest.raises(UsageError, match="run_max is 99"):
        Setting("x", run_max=99).request((1,), 4)
