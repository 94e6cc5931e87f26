"""What exits say of tapes, and what they should say: the counterpart of `observe` for text.

Shapes: R tapes, T tokens heard, N tokens an exit was asked about, of all tapes, E exits, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from offramp.exits.base import Exit
from offramp.exits.exit_set import ExitSet
from offramp.exits.labels import find_label, label_positions
from offramp.models.base import Model
from offramp.training.distil import divergences
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.observe import Observation, Said
from offramp.training.onpolicy.tape import Heard, Tape
from offramp.training.windows import device_of


def listen(
    model: Model, exits: ExitSet, tapes: Sequence[Tape], config: ExitTrainConfig, distil: bool = False
) -> Observation:
    """Every exit over what it heard. Exits are asked about different numbers of tokens: see `heard_EN`."""
    said = [
        _said(model, item, [tape.heard[e] for tape in tapes], config, distil) for e, item in enumerate(exits)
    ]
    counts_E1 = torch.tensor([[len(one.label_N)] for one in said])
    longest = int(counts_E1.max())

    def level(values: Sequence[Tensor]) -> Tensor:
        return torch.stack([F.pad(value_N, (0, longest - len(value_N))) for value_N in values])

    return Observation(
        level([one.gate_N for one in said]),
        level([one.label_N for one in said]),
        level([one.agreed_N for one in said]),
        level([one.kl_N for one in said if one.kl_N is not None]) if distil else None,
        (torch.arange(longest) < counts_E1).to(device_of(model)),
    )


def _said(model: Model, item: Exit, heard: Sequence[Heard], config: ExitTrainConfig, distil: bool) -> Said:
    """One exit's. The label's token is the bridge's as it now is; the model's is what it would choose on the text as
    it was written, no token before having left."""
    device = device_of(model)
    h_RTD = pad_sequence([one.hidden_TD for one in heard], batch_first=True).to(device)
    rows_N = torch.cat([torch.full_like(one.asked_N, r) for r, one in enumerate(heard)]).to(device)
    asked_N = torch.cat([one.asked_N for one in heard]).to(device)
    full_ND = torch.cat([one.full_ND for one in heard]).to(device)
    gate_RT, bridged_RTD = item(h_RTD.float())
    bridged_ND = bridged_RTD[rows_N, asked_N].to(full_ND.dtype)
    with torch.no_grad():
        label_N, agreed_N = _labelled(model, item, config, bridged_ND, full_ND)
        if config.label_reads == "exit":
            label_N, _ = _labelled(model, item, config, h_RTD[rows_N, asked_N], full_ND)
    kl_N = divergences([bridged_ND], full_ND, model.logits)[0] if distil else None
    return Said(gate_RT[rows_N, asked_N], label_N, agreed_N, kl_N)


def _labelled(
    model: Model, item: Exit, config: ExitTrainConfig, read_ND: Tensor, full_ND: Tensor
) -> tuple[Tensor, Tensor]:
    if not len(full_ND):
        nothing = torch.zeros(0, dtype=torch.bool, device=full_ND.device)
        return nothing, nothing
    label = find_label(config.label, config.label_k)
    labels, agreed = label_positions(
        label, config.label_k, [read_ND[None]], full_ND[None], model.logits, drafted=item.drafted
    )
    return labels[0, 0], agreed[0, 0]
