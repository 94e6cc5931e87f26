"""What `transformers` can ask of a generation and this engine cannot give, refused by its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from transformers.generation.configuration_utils import GenerationMode
from transformers.generation.logits_process import (
    ClassifierFreeGuidanceLogitsProcessor,
    SynthIDTextWatermarkLogitsProcessor,
    UnbatchedClassifierFreeGuidanceLogitsProcessor,
)

from offramp.errors import UsageError

MODES = (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE)
OUTPUTS = ("output_attentions", "output_hidden_states", "output_scores", "output_logits")
HARMLESS = {
    "attention_mask",
    "position_ids",
    "past_key_values",
    "cache_params",
    "use_cache",
    "logits_to_keep",
}
"""What `generate` itself hands to a decoding loop."""
STATEFUL = (
    ClassifierFreeGuidanceLogitsProcessor,
    SynthIDTextWatermarkLogitsProcessor,
    UnbatchedClassifierFreeGuidanceLogitsProcessor,
)


def refuse_config(config: Any) -> None:
    """Raises UsageError for a decoding mode that is not greedy or sampling, and for outputs nobody collects."""
    mode = config.get_generation_mode()
    if mode not in MODES:
        raise UsageError(f"{mode.value} is not supported: greedy search and sampling are.")
    for name in OUTPUTS:
        if getattr(config, name, None):
            raise UsageError(
                f"{name} is not supported; sequences are, and EarlyExits(on_event=...) for depths."
            )


def refuse_inputs(given: Mapping[str, Any]) -> None:
    """Raises UsageError for inputs of the model's own forward that ours does not know."""
    strange = sorted(name for name in given.keys() - HARMLESS if given[name] is not None)
    if strange:
        raise UsageError(f"{', '.join(strange)} is not supported: give input_ids and attention_mask.")
    if any(getattr(value, "_is_user_defined", False) for value in given.values()):
        raise UsageError("past_key_values is not supported: give the whole prompt.")


def refuse_processors(processors: Iterable[object]) -> None:
    """Raises UsageError for processors that are no function of a row's ids and scores alone."""
    for processor in processors:
        if isinstance(processor, STATEFUL):
            raise UsageError(
                f"{type(processor).__name__} is not supported: it remembers its calls, and drafts are asked about "
                "twice."
            )
