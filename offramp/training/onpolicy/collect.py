"""The engine writes on from the beginnings of documents, and every gate is taped.

Shapes: T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from offramp.data.documents import Documents, Ids
from offramp.engine.engine import Engine
from offramp.engine.reply import TokenEvent
from offramp.engine.request import Request, Sampling
from offramp.errors import DataError
from offramp.exits.base import Exit
from offramp.exits.exit_set import ExitSet
from offramp.models.base import Model
from offramp.training.onpolicy.config import OnPolicyConfig
from offramp.training.onpolicy.tape import Heard, Tape, Tapes
from offramp.training.onpolicy.taped import Taped, taped
from offramp.training.windows import device_of

REMARKS = 10
"""Of how far it is."""


def collect(
    model: Model,
    exits: ExitSet,
    data: Documents,
    config: OnPolicyConfig,
    propagation: str,
    thresholds: tuple[float, ...],
    seed: int,
    say: Callable[[str], None],
) -> Tapes:
    """Tapes of replies under `propagation`, from documents for training and from those held out. say: takes remarks.

    Raises DataError where no document can be continued, UsageError as `Engine.add` does.
    """
    longest = min(config.prompt_tokens + config.reply_tokens, model.config.context_length)
    wanted = config.replies, max(1, config.replies // 4)
    prompts = [
        list(islice(_prompts(part, config, longest), count))
        for part, count in zip((data.training, data.held_out), wanted, strict=True)
    ]
    if not all(prompts):
        raise DataError(f"{data.source} has too few documents of at least 2 tokens to write on from")
    ears = taped(exits.eval())
    engine = Engine(model, ears, slots=1, max_len=longest, tier="fast", prefix_memory=0)
    requests = [
        Request(
            prompt=prompt,
            propagation=propagation,
            thresholds=thresholds,
            run_max=config.run_max,
            sampling=Sampling(temperature=config.temperature, seed=seed + number),
            max_tokens=longest - len(prompt),
        )
        for number, prompt in enumerate([*prompts[0], *prompts[1]])
    ]
    tapes: list[Ids] = []
    for request in requests:
        tapes.append(_tape(engine, ears, request))
        if len(tapes) % -(-len(requests) // REMARKS) == 0:
            say(f"writing under {propagation}: {len(tapes)} of {len(requests)} replies")
    edge = len(tapes) - len(prompts[1])
    return Tapes(tapes[:edge], tapes[edge:], data.source)


def _prompts(documents: Sequence[Ids], config: OnPolicyConfig, longest: int) -> Iterator[tuple[int, ...]]:
    """The documents' beginnings; of a short one all but its end."""
    for ids in documents:
        if len(ids) > 1:
            most = min(config.prompt_tokens, len(ids) - 1, longest - 2)
            yield tuple(int(token) for token in ids[:most])


def _tape(engine: Engine, ears: Sequence[Exit], request: Request) -> Tape:
    """What was heard during one reply."""
    for ear in ears:
        _gate(ear).heard.clear()
    reply = engine.generate(request)
    tokens = [*request.prompt, *reply.tokens]
    full_TD = _full_depth(engine.model, tokens)
    heard = [_heard(ear, reply.events, len(request.prompt), len(tokens), full_TD) for ear in ears]
    return Tape(tokens, heard)


@torch.no_grad()
def _full_depth(model: Model, tokens: Sequence[int]) -> Tensor:
    """What the last block gives at each token `[T, D]`, none of them having left."""
    return model.hidden_states(torch.tensor([list(tokens)], device=device_of(model)))[-1][0]


def _heard(ear: Exit, events: Sequence[TokenEvent], prompt: int, end: int, full_TD: Tensor) -> Heard:
    """The token before event i is what the exits were asked about: those down to the depth where it was chosen.

    The first event is the prompt's own, and the last token of all is never read.
    """
    positions, hidden_TD = _gate(ear).played(end - 1)
    asked = {prompt + event.index - 1 for event in events if event.index and event.depth >= ear.after}
    places = [place for place, position in enumerate(positions) if position in asked]
    at = [positions[place] for place in places]
    return Heard(hidden_TD, torch.tensor(places, dtype=torch.long), full_TD[at])


def _gate(ear: Exit) -> Taped:
    assert isinstance(ear.gate, Taped)
    return ear.gate
