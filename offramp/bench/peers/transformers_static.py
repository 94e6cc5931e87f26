"""transformers' `generate` with a cache of fixed size."""

from __future__ import annotations

from typing import Any

from offramp.bench.peers._transformers import Generating


class Static(Generating):
    """Nothing is compiled on a CPU."""

    def options(self) -> dict[str, Any]:
        return {"cache_implementation": "static"}
