"""llama.cpp. Eight bits in blocks of 32, each with a scale."""

from __future__ import annotations

from offramp.bench.contender import Job
from offramp.bench.gguf.kinds import Kind
from offramp.bench.peers._llama_cpp import LlamaCpp


class Q8(LlamaCpp):
    """Eight bits in blocks of 32, each with a scale."""

    def kind(self, job: Job) -> Kind:
        return Kind.Q8_0
