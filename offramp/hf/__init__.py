"""Early exits for a model of `transformers`, from its own `generate`: needs the extra `offramp[hf]`.

    from offramp.hf import EarlyExits, generate

    inputs = tokenizer("def fib(n):", return_tensors="pt")
    early = EarlyExits("owner/exits")
    ids = generate(model, **inputs, early=early, max_new_tokens=64, repetition_penalty=1.2)

Its logits processors, stopping criteria and streamers apply; under `verify` the greedy tokens are `model.generate`'s
own. The weights are not copied. Nothing else of the package imports transformers.
"""

from offramp.errors import UsageError

try:
    from offramp.hf.decoder import Decoder, EarlyExits
    from offramp.hf.generation import generate
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("transformers"):
        raise
    raise UsageError("offramp.hf needs the library transformers: pip install 'offramp[hf]'.") from error

__all__ = ["Decoder", "EarlyExits", "generate"]
