"""llama.cpp. The model's own format."""

from __future__ import annotations

from offramp.bench.contender import Job
from offramp.bench.gguf.kinds import Kind
from offramp.bench.peers._llama_cpp import LlamaCpp


class AsModel(LlamaCpp):
    """The model's own format."""

    def kind(self, job: Job) -> Kind:
        return Kind.F32 if job.dtype == "f32" else Kind.BF16
