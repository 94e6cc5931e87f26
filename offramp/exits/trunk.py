"""What a gate or bridge reads of a token, and remembers of those before it: norm -> down -> mixer (residual).

A gate and a bridge may each have a trunk, or the bridge may read the gate's: advanced once and stored once.

Shapes: R rows, T tokens of each, N tokens of all rows in this call, packed, D width, r inner width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from offramp.exits.config import ExitConfig
from offramp.mixers.base import Mixer, State
from offramp.mixers.identity import Identity
from offramp.ops.norm import RMSNorm


class Trunk(nn.Module):
    """Without weights or memory until `make` gives it some: then `read` hands hidden states on as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.norm: nn.Module = nn.Identity()
        self.mixer: Mixer = Identity()
        self.down: nn.Module = nn.Identity()

    def make(self, config: ExitConfig, width: int | None, mixer_at: Callable[[int], Mixer]) -> None:
        """Norm, map to `width` (None: the model's own, without a map) and mixer at that width."""
        self.norm = RMSNorm(config.hidden_size, config.norm_eps) if config.norm else nn.Identity()
        self.mixer = mixer_at(width or config.hidden_size)
        self.down = nn.Identity() if width is None else nn.Linear(config.hidden_size, width)

    def _narrow(self, h: Tensor) -> Tensor:
        """What the mixer reads. The residual stream may be wider than the weights (residual_in_fp32)."""
        weight = next(self.parameters(), None)
        y = self.norm(h)
        return self.down(y if weight is None else y.to(weight.dtype))

    def read(
        self,
        h: Tensor,
        state: State | None = None,
        rows: Sequence[int] | None = None,
        n: Sequence[int] | None = None,
    ) -> Tensor:
        """y + mixer(y); y itself where nothing is mixed. Of whole sequences `[R, T, D]` it is `[R, T, r]`, with a state
        of packed tokens `[N, D]` it is `[N, r]`; see `Mixer.forward`."""
        y = self._narrow(h)
        mixed = self.mixer(y, state, rows, n)
        return y + mixed if self.mixer.remembers else mixed

    def prefill(self, h_RTD: Tensor, state: State, rows: Sequence[int]) -> None:
        """A prompt cell: the state advances, nothing is decided in a prompt."""
        self.mixer.prefill(self._narrow(h_RTD), state, rows)

    def advance(self, h_ND: Tensor, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        self.mixer.advance(self._narrow(h_ND), state, rows, n)


def nothing_yet(width: int, out: int) -> nn.Linear:
    """A linear map to exact zeros: what adds it to a hidden state begins as the identity."""
    linear = nn.Linear(width, out)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
