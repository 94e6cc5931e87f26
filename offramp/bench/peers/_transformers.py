"""What all ways to generate with transformers share: greedy, so many tokens, each with its time."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.generation.streamers import BaseStreamer

from offramp.bench.contender import Contender, Job, NotRun, Prompt, Turn
from offramp.engine.load import DTYPES, device_named

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


class Watch(BaseStreamer):
    """Notes when tokens come."""

    def __init__(self) -> None:
        self.came: list[tuple[float, int]] = []

    def put(self, value: Tensor) -> None:
        self.came.append((perf_counter(), value.numel()))

    def end(self) -> None:
        pass


class Generating(Contender):
    """`model.generate`. Subclasses say with which options."""

    reads_all = True
    """Whether each token reads all weights: not where several are judged at once."""

    def __init__(self, job: Job) -> None:
        if job.rows != 1:
            raise NotRun("it is run for one row only")
        self.job = job
        dtype = DTYPES.get(job.dtype, torch.bfloat16)  # fewer bits are ours alone
        model: Any = AutoModelForCausalLM.from_pretrained(job.folder, dtype=dtype)
        self.model = model.to(device_named(job.device)).eval()
        self.model.generation_config = GenerationConfig(pad_token_id=0, eos_token_id=None)
        self.about = f"transformers {transformers.__version__} {str(dtype).removeprefix('torch.')}"

    def options(self) -> dict[str, Any]:
        """Of `generate`, beside what all have."""
        return {}

    @torch.inference_mode()
    def run(self, prompts: Sequence[Prompt]) -> Turn:
        [prompt] = prompts
        ids = torch.tensor([prompt], device=self.model.device)
        count, watch = self.job.tokens + 1, Watch()
        began = perf_counter()
        said = self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=count,
            streamer=watch,
            **self.options(),
        )
        (first, one), *others = watch.came[1:]  # before it the prompt came
        tokens = tuple(said[0, len(prompt) :].tolist())
        read = float(self._weights()) if self.reads_all else None
        return Turn(first - began, len(tokens) - one, others[-1][0] - first, (tokens,), read)

    def _weights(self) -> int:
        """Bytes of everything but the embedding, of which a token reads one row; it counts where it is the head too."""
        embedding = self.model.get_input_embeddings().weight
        head = self.model.get_output_embeddings().weight
        parameters = {id(weight): weight.nbytes for weight in self.model.parameters()}
        return sum(parameters.values()) - (0 if head is embedding else embedding.nbytes)
