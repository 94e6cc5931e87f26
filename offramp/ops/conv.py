"""Causal depthwise convolution along the sequence: every channel by itself, W taps.

Shapes: R rows, T tokens, C channels, W taps; S tapes of M inputs, L packed tokens of any rows. weight_CW[:, -1] meets
the token itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def causal_conv(
    x_RTC: Tensor, weight_CW: Tensor, bias_C: Tensor | None, window_RWC: Tensor | None = None
) -> Tensor:
    """Whole sequences, `[R, T, C]`. window: the W-1 inputs before the first token, zeros if None."""
    taps = weight_CW.shape[1]
    x_RCT = x_RTC.transpose(1, 2)
    if window_RWC is None:
        x_RCT = F.pad(x_RCT, (taps - 1, 0))
    else:
        x_RCT = torch.cat((window_RWC.transpose(1, 2), x_RCT), dim=-1)
    return F.conv1d(x_RCT, weight_CW[:, None], bias_C, groups=len(weight_CW)).transpose(1, 2)


def next_window(window_RWC: Tensor, x_RTC: Tensor) -> Tensor:
    """The last W-1 inputs once x has passed: `[R, W-1, C]`."""
    taken = window_RWC.shape[1]
    return torch.cat((window_RWC, x_RTC), dim=1)[:, x_RTC.shape[1] : x_RTC.shape[1] + taken]


def windows(tape_SMC: Tensor, taps: int) -> Tensor:
    """Every W inputs in a row on all tapes joined, `[S M - W + 1, W, C]`: a view whose entries overlap.

    Entry s M + m begins at input m of tape s; the last W - 1 entries of a tape run into the next one.
    """
    joined = tape_SMC.flatten(0, 1)
    shape = (len(joined) - taps + 1, taps, joined.shape[1])
    return joined.as_strided(shape, (joined.stride(0), *joined.stride()))


def conv_tokens(inputs_LWC: Tensor, weight_CW: Tensor, bias_C: Tensor | None) -> Tensor:
    """The decode form: L tokens, each with its W inputs; output `[L, C]`.

    A fixed order of elementwise products: a token's result depends on its own W inputs alone, bit for bit.
    """
    y_LC, *others = (inputs_LWC * weight_CW.T.contiguous()).unbind(1)
    for other_LC in others:
        y_LC = y_LC + other_LC
    return y_LC if bias_C is None else y_LC + bias_C


def causal_conv_naive(
    x_RTC: Tensor, weight_CW: Tensor, bias_C: Tensor | None, window_RWC: Tensor | None = None
) -> Tensor:
    taps = weight_CW.shape[1]
    rows, tokens, channels = x_RTC.shape
    past = x_RTC.new_zeros(rows, taps - 1, channels) if window_RWC is None else window_RWC
    inputs = torch.cat((past, x_RTC), dim=1)
    steps = [(inputs[:, t : t + taps] * weight_CW.T).sum(1) for t in range(tokens)]
    y_RTC = torch.stack(steps, dim=1)
    return y_RTC if bias_C is None else y_RTC + bias_C
