"""`generate`: the model's own `generate`, with this engine as its decoding loop."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.generation.stopping_criteria import StoppingCriteriaList, StopStringCriteria

from offramp.errors import UsageError
from offramp.hf.decoder import Decoder, EarlyExits

REFUSED = (
    "assistant_model",
    "cache_params",
    "custom_generate",
    "inputs_embeds",
    "past_key_values",
    "position_ids",
)


def generate(
    model: Any,
    inputs: Tensor | None = None,
    *,
    early: EarlyExits | None = None,
    streamer: Any = None,
    tokenizer: Any = None,
    **options: Any,
) -> Any:
    """`model.generate(inputs, **options)` decoded with early exits; see `Decoder` for what it returns.

    tokenizer: for stop_strings. Logits processors and stopping criteria are asked one row at a time, and processors
    must be functions of what they are given: drafts are asked about twice.
    Raises UsageError for options that are not supported, by name.
    """
    for name in REFUSED:
        if options.get(name) is not None:
            raise UsageError(f"{name} is not supported by offramp.hf.generate.")
    options = _with_stop_strings(model, tokenizer, options)
    decoder = Decoder(early or EarlyExits(), streamer)
    return model.generate(inputs, custom_generate=decoder, streamer=streamer, **options)


def _with_stop_strings(model: Any, tokenizer: Any, options: dict[str, Any]) -> dict[str, Any]:
    """stop_strings as a criterion: on the way to a custom_generate, transformers loses the tokenizer they need."""
    config = options.get("generation_config") or model.generation_config
    stops = options.get("stop_strings") or config.stop_strings
    if stops is None:
        return options
    if tokenizer is None:
        raise UsageError("stop_strings need the tokenizer: give tokenizer=...")
    criteria = [*(options.get("stopping_criteria") or ()), StopStringCriteria(tokenizer, stops)]
    return options | {"stop_strings": None, "stopping_criteria": StoppingCriteriaList(criteria)}
