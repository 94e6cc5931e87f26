"""How likely is a given text? Every token by the logits of the depth at which it leaves, or all at full depth.

The prompt goes all the way, and so does the token after it: what has one token alone is always scored at full depth.
Logprobs are the model's own, without temperature or penalties. Shapes: R rows, T tokens, N packed tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from offramp.engine.engine import Engine
from offramp.engine.reply import Generation
from offramp.engine.request import Request, Sampling
from offramp.errors import UsageError
from offramp.evaluation.setting import Setting
from offramp.evaluation.tasks.base import Scored
from offramp.models.base import Model
from offramp.text import Text

TOGETHER = 8192
"""Tokens that one whole-sequence pass takes, padding included; a longer sequence goes alone."""

Ids = Sequence[int]


def encode_pair(text: Text, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Token ids of a context and of what follows it, cut where the context's own ids end.

    Spaces at the context's end go to the continuation, where tokenizers have them; an empty context is the token that
    begins a text. The rule of lm-evaluation-harness, which may lose a character where one id spans the cut; where it
    leaves nothing to score, the last id is scored.
    """
    kept = context.rstrip()
    continuation = context[len(kept) :] + continuation
    if not kept:
        return [beginning(text)], _bare(text, continuation)
    before, whole = text.encode(kept), text.encode(kept + continuation)
    edge = min(len(before), len(whole) - 1)
    return before[:edge] or [beginning(text)], whole[edge:]


def rolling(text: Text, whole: str, size: int) -> Iterator[tuple[Ids, Ids]]:
    """A text as contexts and continuations of at most `size` tokens to be read, so that every token is scored once.

    The first follows the token that begins a text; the last has as much context as fits. The harness's windows.
    """
    return windows([beginning(text), *_bare(text, whole)], size)


def windows(ids: Ids, size: int) -> Iterator[tuple[Ids, Ids]]:
    """The same of ids, the first of which stands before what is scored."""
    for start in range(1, len(ids), size):
        end = min(start + size, len(ids))
        begin = max(0, min(start - 1, end - 1 - size))
        yield ids[begin:start], ids[start:end]


def beginning(text: Text) -> int:
    """The id that stands before a text: of its beginning, or, where there is none, of the end of the one before.

    Raises UsageError for a tokenizer that names neither.
    """
    found = text.bos_id if text.bos_id is not None else text.eos_id
    if found is None:
        raise UsageError(
            "the tokenizer names no bos_token and no eos_token, so no text can be scored from its start."
        )
    return found


def _bare(text: Text, whole: str) -> list[int]:
    ids = text.encode(whole)
    return ids[1:] if ids and ids[0] == text.bos_id else ids


def fitted(context: Ids, room: int) -> list[int]:
    """The context's last tokens, so many as there is room for."""
    return list(context[max(0, len(context) - room) :])


def score_choices(engine: Engine, setting: Setting, prompt: Ids, choices: Sequence[Ids]) -> list[Scored]:
    """The choices after one prompt, scored in the setting. Raises what `Engine.add` raises."""
    requests = [forced(setting, prompt, choice) for choice in choices]
    return [scored(reply) for reply in engine.generate_all(requests)]


def forced(setting: Setting, prompt: Ids, tokens: Ids) -> Request:
    """The request that scores the tokens after the prompt."""
    plain = replace(setting, sampling=Sampling())
    return replace(plain.request(prompt, max_tokens=len(tokens)), forced=tuple(tokens))


def scored(reply: Generation) -> Scored:
    """What a forced reply says of its tokens."""
    events = [event for event in reply.events if event.token >= 0]
    return Scored(
        tuple(event.logprob for event in events),
        all(event.token == event.best for event in events),
        tuple(event.depth for event in events),
    )


@torch.inference_mode()
def score_full(model: Model, pairs: Sequence[tuple[Ids, Ids]]) -> list[Scored]:
    """Contexts and continuations at full depth, whole sequences at a time: the numbers of `score_choices` there."""
    found: list[Scored] = []
    for batch in _batches(pairs):
        found += _together(model, batch)
    return found


def _batches(pairs: Sequence[tuple[Ids, Ids]]) -> Iterator[list[tuple[Ids, Ids]]]:
    batch: list[tuple[Ids, Ids]] = []
    longest = 0
    for pair in pairs:
        longest = max(longest, len(pair[0]) + len(pair[1]))
        if batch and longest * (len(batch) + 1) > TOGETHER:
            yield batch
            batch, longest = [], len(pair[0]) + len(pair[1])
        batch.append(pair)
    if batch:
        yield batch


def _together(model: Model, pairs: Sequence[tuple[Ids, Ids]]) -> list[Scored]:
    """One pass. Rows are filled up behind their end, where nothing that counts can see it."""
    read = [[*context, *continuation[:-1]] for context, continuation in pairs]
    longest, device = max(map(len, read)), next(model.parameters()).device
    rows_RT = torch.tensor([ids + [0] * (longest - len(ids)) for ids in read], device=device)
    hidden_RTD = model.hidden_states(rows_RT)[-1]
    return [
        _row(model, hidden_TD[len(context) - 1 :][: len(continuation)], continuation)
        for hidden_TD, (context, continuation) in zip(hidden_RTD, pairs, strict=True)
    ]


def _row(model: Model, hidden_ND: Tensor, tokens: Ids) -> Scored:
    logprobs_NV = model.logits(hidden_ND).float().log_softmax(-1)
    tokens_N = torch.tensor(tokens, device=hidden_ND.device)
    logprobs_N = logprobs_NV.gather(-1, tokens_N[:, None])[:, 0]
    greedy = bool((logprobs_NV.argmax(-1) == tokens_N).all())
    return Scored(tuple(logprobs_N.tolist()), greedy, (len(model.blocks),) * len(tokens))
