"""Causal depthwise convolution along the sequence: every channel by itself, W taps.

Shapes: R rows, T tokens, C channels, W taps; S tapes of M inputs, L packed tokens of any rows. weight_CW[:, -1] meets
the token itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def causal_conv(x_RTC: Tensor, weight_CW: Tensor, bias_C: Tensor | None) -> Tensor:
    """Whole sequences, `[R, T, C]`; before the first token there were zeros."""
    x_RCT = F.pad(x_RTC.transpose(1, 2), (weight_CW.shape[1] - 1, 0))
    return F.conv1d(x_RCT, weight_CW[:, None], bias_C, groups=len(weight_CW)).transpose(1, 2)


def conv_cell(x_RTC: Tensor, weight_CW: Tensor, bias_C: Tensor | None, window_RWC: Tensor) -> Tensor:
    """A prompt cell `[R, T, C]`, in float32 at least. window: the W-1 inputs before the first token.

    Tap by tap, where everything lies: `conv1d` would have the tokens side by side, and turning them takes longer.
    """
    (rows, tokens, channels), before = x_RTC.shape, window_RWC.shape[1]
    dtype = torch.promote_types(x_RTC.dtype, torch.float32)
    inputs_RLC = x_RTC.new_empty(rows, before + tokens, channels, dtype=dtype)
    inputs_RLC[:, :before], inputs_RLC[:, before:] = window_RWC, x_RTC
    weight_WC = weight_CW.T.to(dtype).contiguous()
    y_RTC = inputs_RLC[:, before:] * weight_WC[-1]
    for w, weight_C in enumerate(weight_WC[:-1]):
        y_RTC.addcmul_(inputs_RLC[:, w : w + tokens], weight_C)
    return y_RTC if bias_C is None else y_RTC.add_(bias_C)


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
