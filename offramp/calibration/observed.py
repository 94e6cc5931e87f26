"""What every exit's gate says along texts, and whether its token is the full model's: one pass, no free run.

Shapes: E exits, T tokens, N positions of all texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from offramp.calibration.temperature import Floats
from offramp.data.documents import Ids
from offramp.exits.exit_set import ExitSet
from offramp.models.base import Model
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.observe import observe
from offramp.training.windows import batches_of, cut

BATCH_TOKENS = 8192
WINDOW = 512


@dataclass(frozen=True)
class Observed:
    """logits_EN: of the gates; right_EN: 1.0 where the exit's greedy token is the full model's."""

    logits_EN: Floats
    right_EN: Floats


def observed(model: Model, exits: ExitSet, texts: Sequence[Ids]) -> Observed:
    """Over texts cut into windows, in no order that means anything. Texts of one token say nothing."""
    window = min(WINDOW, model.config.context_length)
    seen = [_batch(model, exits, batch) for batch in batches_of(cut(texts, window), BATCH_TOKENS, seed=0)]
    return Observed(*(np.concatenate([getattr(one, name) for one in seen], 1) for name in vars(seen[0])))


def along(model: Model, exits: ExitSet, text: Ids) -> Observed:
    """Along one text: its positions in order."""
    return _batch(model, exits, [text])


@torch.no_grad()
def _batch(model: Model, exits: ExitSet, rows: Sequence[Ids]) -> Observed:
    config = ExitTrainConfig(label="exact")
    emitting = exits.drafting_from(())  # a short list is what drafts are chosen among, not what is emitted
    seen = observe(model, emitting, rows, config, distil=exits.bridges_learn)
    return Observed(seen.gates_EN.double().cpu().numpy(), seen.agreed_EN.double().cpu().numpy())
