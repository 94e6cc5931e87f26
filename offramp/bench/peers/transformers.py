"""transformers' `generate` as it is."""

from __future__ import annotations

from offramp.bench.peers._transformers import Generating


class Eager(Generating):
    """With the cache that it chooses."""
