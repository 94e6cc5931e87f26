"""transformers' prompt lookup: what followed the same tokens before is the draft."""

from __future__ import annotations

from typing import Any

from offramp.bench.peers._transformers import Generating

TOKENS = 5
"""Of a draft."""


class Lookup(Generating):
    """Drafts from the text itself."""

    reads_all = False

    def options(self) -> dict[str, Any]:
        return {"prompt_lookup_num_tokens": TOKENS}
