"""The decoding loop that `model.generate(custom_generate=...)` calls in place of its own.

`generate` prepares ids, processors and criteria; the engine chooses tokens through the processors; every token that
became final is shown to the criteria and the streamer in turn, one row at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers.generation.utils import GenerateDecoderOnlyOutput

from offramp.engine.engine import Engine
from offramp.engine.load import exits_for
from offramp.engine.reply import TokenEvent
from offramp.engine.request import Request, Sampling
from offramp.errors import UsageError
from offramp.exits.exit_set import ExitSet
from offramp.hf.refusals import refuse_config, refuse_inputs, refuse_processors
from offramp.hf.rows import Processors, Row, padded, rows_of
from offramp.hf.watch import Watch
from offramp.hf.weights import model_of
from offramp.models.base import Model


@dataclass(frozen=True)
class EarlyExits:
    """How tokens may leave.

    exits: an exit set, or what `offramp.load` takes: a folder, a hub id `owner/name`, the name of a set beside the
    model's weights, "none", "untrained"; None is the default beside the weights, if any. exits_at: only the exits
    after these blocks. thresholds: None are those the exits suggest, else 0.5. seed: row i of a sampled batch draws
    with seed + i; None takes one from torch's global generator, so that `transformers.set_seed` decides. on_event:
    called with every final token, its depth and gate; `request` is the row's place in the batch. slots: rows running
    at a time, None all.
    """

    exits: ExitSet | str | Path | None = None
    exits_at: tuple[int, ...] | None = None
    propagation: str = "verify"
    policy: str = "gate"
    thresholds: tuple[float, ...] | None = None
    run_max: int = 8
    seed: int | None = None
    tier: str = "exact"
    slots: int | None = None
    on_event: Callable[[TokenEvent], None] | None = None

    def load(self, theirs: Any, model: Model) -> tuple[ExitSet | None, tuple[float, ...]]:
        """The exits for `theirs`, which `model` is too, and the thresholds.

        Raises ExitsError and UsageError as `offramp.load` does.
        """
        if isinstance(self.exits, ExitSet):
            exits: ExitSet | None = self.exits.select(self.exits_at) if self.exits_at else self.exits
            return exits, self.thresholds or (0.5,)
        if not theirs.name_or_path and self.exits is None:  # it was never a folder, so it has no default set
            return None, self.thresholds or (0.5,)
        weight, home = model.head.get_parameter("weight"), Path(theirs.name_or_path)
        exits, info = exits_for(model, home, self.exits, self.exits_at, weight.dtype, weight.device)
        return exits, self.thresholds or (info.thresholds if info else ()) or (0.5,)


@dataclass(frozen=True)
class Decoder:
    """A `custom_generate`. transformers (5.23) drops `streamer` and `tokenizer` on the way to one: hence `streamer`
    here, and `offramp.hf.generate`, which sees to both."""

    early: EarlyExits = EarlyExits()
    streamer: Any = None

    def __call__(
        self,
        model: Any,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        synced_gpus: bool = False,
        streamer: Any = None,
        **model_kwargs: Any,
    ) -> Any:
        """Ids `[B, T]`, prompts included, or with return_dict_in_generate the output that holds them.

        Sampling draws counter-based Gumbel noise over the processed scores: the same distribution as torch's
        multinomial, not the same draws. Rows end at the model's context. Raises UsageError for what is not
        supported, by name; CheckpointError, ExitsError and CapacityError as the engine does.
        """
        refuse_config(generation_config)
        refuse_inputs(model_kwargs)
        refuse_processors(logits_processor)
        if synced_gpus:
            raise UsageError("synced_gpus is not supported: run one process.")
        rows = rows_of(input_ids, model_kwargs.get("attention_mask"))
        pad = _padding(generation_config, rows, stopping_criteria)
        streamer = self.streamer if streamer is None else streamer
        watch = Watch(rows, stopping_criteria, streamer, self.early.on_event, input_ids.device)
        sampling, ours = self._sampling(generation_config.do_sample), model_of(model)
        end = stopping_criteria.max_length or ours.config.context_length
        watch.run(self._engine(model, ours, rows, sampling, logits_processor, end))
        ids_BT = cast(torch.LongTensor, padded(rows, pad, input_ids.device))
        if generation_config.return_dict_in_generate:
            return GenerateDecoderOnlyOutput(sequences=ids_BT)
        return ids_BT

    def _sampling(self, do_sample: bool) -> Sampling:
        """Temperature and filters are among the processors."""
        seed = self.early.seed
        if do_sample and seed is None:
            seed = int(torch.randint(1 << 62, ()))
        return Sampling(temperature=1.0 if do_sample else 0.0, seed=seed or 0)

    def _engine(
        self, theirs: Any, model: Model, rows: Sequence[Row], sampling: Sampling, processors: Any, end: int
    ) -> Engine:
        """An engine that holds one request for each row, in their order. end: tokens of a row, padding included."""
        early = self.early
        exits, thresholds = early.load(theirs, model)
        max_tokens = max(1, end - rows[0].length)
        room = max(len(row.prompt) for row in rows) + max_tokens
        slots = early.slots or len(rows)
        engine = Engine(model, exits, slots=slots, max_len=room, tier=early.tier, queue=len(rows))
        for i, row in enumerate(rows):
            processor = Processors(processors, row.padding, i, len(rows))
            request = Request(
                prompt=row.prompt,
                propagation=early.propagation,
                policy=early.policy,
                thresholds=thresholds,
                run_max=early.run_max,
                sampling=replace(sampling, seed=sampling.seed + i, processor=processor),
                max_tokens=max_tokens,
                ignore_eos=True,  # the criteria say what ends a row
            )
            engine.add(request)
        return engine


def _padding(config: Any, rows: Sequence[Row], criteria: Any) -> int:
    """What fills up the rows that end early. Raises UsageError where there is nothing and it may be needed."""
    pad = getattr(config, "_pad_token_tensor", None)  # generate's: an end token where the model has no other
    if pad is None and len(rows) > 1 and len(criteria) > 1:
        raise UsageError("rows may end at different lengths: give a pad_token_id.")
    return 0 if pad is None else int(pad)
