"""The kernels as they were built for each set of instructions that this processor runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from offramp.native.library import Library, load, runnable

NONE = pytest.param("", marks=pytest.mark.skip(reason="no kernels were built here"))


@pytest.fixture(params=runnable() or [NONE])
def library(request: pytest.FixtureRequest) -> Iterator[Library]:
    """On one thread, unless a test says otherwise."""
    found = load(request.param)
    before, found.threads = found.threads, 1
    yield found
    found.threads = before
