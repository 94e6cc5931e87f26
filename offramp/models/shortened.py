"""A model whose head has some of the vocabulary's rows: what short lists of drafts are read with.

Shapes: K tokens kept, D width.
"""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

import torch
from torch import Tensor, nn

from offramp.models.base import Model


def shortened(model: Model, ids_K: Tensor) -> Model | None:
    """The model's norm, and its head for these tokens alone: logits `[..., K]` of hidden states, no blocks.

    The rows are a copy, K x D numbers in the head's own format, so that they lie together. None where the head is not
    one row a token.
    """
    head = rows_of(model.head, ids_K)
    if head is None:
        return None
    config = replace(model.config, vocab_size=len(ids_K), num_blocks=0)
    return Model(config, model.embed, (), model.norm, head).train(model.training)


@singledispatch
def rows_of(head: nn.Module, ids_K: Tensor) -> nn.Module | None:
    """A head of its outputs `ids_K` alone, row by row the same numbers; None for a kind that has no such rows."""
    return None


@rows_of.register
def _linear(head: nn.Linear, ids_K: Tensor) -> nn.Module | None:
    if type(head) is not nn.Linear:  # a subclass may do something else
        return None
    short = nn.Linear(head.in_features, len(ids_K), bias=head.bias is not None, device="meta")
    with (
        torch.inference_mode(False),
        torch.no_grad(),
    ):  # quantised weights are no parameters in inference mode
        for name, values in head.named_parameters():
            kept = values.index_select(0, ids_K.to(values.device))
            setattr(short, name, nn.Parameter(kept, requires_grad=False))
    return short
