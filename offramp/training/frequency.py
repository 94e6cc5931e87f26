"""Which tokens drafts should be chosen among: the commonest of a text.

Shapes: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import numpy as np

from offramp.data.documents import Documents
from offramp.errors import UsageError
from offramp.exits.exit_set import ExitSet
from offramp.models.base import ModelConfig
from offramp.propagation.base import Propagation
from offramp.registry import find


def frequent_tokens(
    data: Documents, count: int, vocabulary: int, always: Iterable[int] = ()
) -> tuple[int, ...]:
    """The `count` commonest ids of the training documents, commonest first; of equally common ones the lowest first.

    always: ids that come before all others, as those that end a text.
    """
    ids = np.fromiter(chain.from_iterable(data.training), np.int64)
    counts_V = np.bincount(ids, minlength=vocabulary)[:vocabulary]
    counts_V[[token for token in always if 0 <= token < vocabulary]] = len(ids) + 1
    ranked = np.argsort(-counts_V, kind="stable")
    return tuple(ranked[:count].tolist())


def listed(exits: ExitSet, model: ModelConfig, data: Documents) -> ExitSet:
    """The exits, whose drafts are chosen among as many of the data's commonest tokens as their config says."""
    count = exits.config.draft_vocabulary
    if not count:
        return exits
    return exits.drafting_from(frequent_tokens(data, count, model.vocab_size, model.eos_token_ids))


def check_draft_vocabulary(count: int, propagation: str, vocabulary: int) -> None:
    """Raises UsageError for a list that is not short, and for exits whose tokens nothing judges."""
    if count >= vocabulary:
        raise UsageError(
            f"a draft vocabulary of {count:,} tokens shortens nothing: the model knows {vocabulary:,}; an eighth of "
            f"them would be {vocabulary // 8:,}"
        )
    if count and not find("offramp.propagation", propagation, Propagation).judged:
        raise UsageError(
            f"a draft vocabulary is for verify, where drafts are judged; under {propagation} what an exit says is "
            "emitted, so it is chosen among all tokens: leave out --draft-vocabulary, or train for verify"
        )
