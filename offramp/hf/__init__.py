"""Early exits for a model of `transformers`, from its own `generate`: needs the extra `offramp[hf]`.

    from offramp.hf import EarlyExits, generate

    inputs = tokenizer("def fib(n):", return_tensors="pt")
    early = EarlyExits("owner/exits")
    ids = generate(model, **inputs, early=early, max_new_tokens=64, repetition_penalty=1.2)

Its logits processors, stopping criteria and streamers apply; under `verify` the greedy tokens are `model.generate`'s
own. The weights are not copied. Nothing else of the package imports transformers.
"""

from offramp.hf.decoder import Decoder, EarlyExits
from offramp.hf.generation import generate

__all__ = ["Decoder", "EarlyExits", "generate"]
