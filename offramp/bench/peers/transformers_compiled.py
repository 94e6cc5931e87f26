"""transformers' `generate` with a cache of fixed size and the decode step compiled."""

from __future__ import annotations

import shutil
from typing import Any

from transformers import CompileConfig

from offramp.bench.contender import Job, NotRun
from offramp.bench.peers._transformers import Generating

COMPILERS = ("c++", "g++", "clang++", "cl")


class Compiled(Generating):
    """Prompts run uncompiled, as `generate` has it."""

    def __init__(self, job: Job) -> None:
        if not any(map(shutil.which, COMPILERS)):
            raise NotRun("torch.compile needs a C++ compiler")
        super().__init__(job)
        self.config = CompileConfig(fullgraph=False, dynamic=False, mode="default")
        self.config._compile_all_devices = True  # type: ignore[assignment]  # else only on a GPU

    def options(self) -> dict[str, Any]:
        return {"cache_implementation": "static", "compile_config": self.config}
