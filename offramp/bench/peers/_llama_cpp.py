"""llama.cpp through llama-cpp-python, on a GGUF of our own making: ids in, ids out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from time import perf_counter
from typing import Any

import llama_cpp  # type: ignore[import-not-found]
import numpy as np

from offramp.bench.contender import Contender, Job, NotRun, Prompt, Turn
from offramp.bench.gguf.families import write_checkpoint
from offramp.bench.gguf.kinds import Kind


class LlamaCpp(Contender):
    """Subclasses say how matrices are stored."""

    def __init__(self, job: Job) -> None:
        if job.rows != 1:
            raise NotRun("it is run for one row only")
        if job.device != "cpu":
            raise NotRun("it is run on the CPU only")
        kind = self.kind(job)
        path = job.scratch / f"model-{kind.name.lower()}.gguf"
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # its memory is not llama.cpp's
            read = pool.submit(write_checkpoint, job.folder, path, kind, job.max_len).result()
        self.job = job
        self.model: Any = llama_cpp.Llama(
            str(path), n_ctx=job.max_len, n_threads=job.threads, n_threads_batch=job.threads, verbose=False
        )
        self.vocab: int = self.model.n_vocab()
        self.weight_bytes = float(read)
        self.about = f"llama.cpp (llama-cpp-python {llama_cpp.__version__}) {kind.name.lower()}"

    @abstractmethod
    def kind(self, job: Job) -> Kind:
        """How this job's matrices are stored."""

    def run(self, prompts: Sequence[Prompt]) -> Turn:
        [prompt] = prompts
        self.model.reset()
        began = perf_counter()
        tokens = [self._said(prompt)]
        first = perf_counter()
        for _ in range(self.job.tokens):
            tokens.append(self._said(tokens[-1:]))
        taken = perf_counter() - first
        return Turn(first - began, self.job.tokens, taken, (tuple(tokens),), self.weight_bytes)

    def _said(self, tokens: Sequence[int]) -> int:
        """The likeliest token after these."""
        self.model.eval(tokens)
        logits = llama_cpp.llama_get_logits_ith(self.model.ctx, -1)
        return int(np.ctypeslib.as_array(logits, (self.vocab,)).argmax())
