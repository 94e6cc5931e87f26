"""llama.cpp. Half precision."""

from __future__ import annotations

from offramp.bench.contender import Job
from offramp.bench.gguf.kinds import Kind
from offramp.bench.peers._llama_cpp import LlamaCpp


class Half(LlamaCpp):
    """Half precision."""

    def kind(self, job: Job) -> Kind:
        return Kind.F16
