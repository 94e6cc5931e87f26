"""The exit contract: a gate and a bridge after a block.

Gate (design section 2): optional norm -> Linear(D, r) -> mixer at width r -> Linear(1). Its value is the sigmoid
of that logit: the estimated probability that the token the bridge would emit is the full model's.
Both have the verbs of a mixer where they have state, and advance for every token pushed through their segment.

Shapes: R rows, T tokens, D width, r bottleneck.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from offramp.exits.checks import LARGEST, check, is_count, is_number
from offramp.exits.positions import check_positions
from offramp.mixers.base import Mixer, State
from offramp.mixers.identity import Identity
from offramp.ops.norm import RMSNorm


@dataclass(frozen=True)
class ExitConfig:
    """Everything that shapes one checkpoint's exits; written to exits.json.

    after: the exits sit after these many blocks, ascending.   bottleneck: r; None is the paper's full width.
    """

    gate: str
    bridge: str
    after: tuple[int, ...]
    hidden_size: int
    norm_eps: float
    bottleneck: int | None = 64
    norm: bool = True

    def __post_init__(self) -> None:
        """Raises UsageError, naming the field, for what no exits can be built from."""
        check("gate", self.gate, isinstance(self.gate, str), "a name")
        check("bridge", self.bridge, isinstance(self.bridge, str), "a name")
        check_positions(self.after)
        check("hidden_size", self.hidden_size, is_count(self.hidden_size), f"an integer from 1 to {LARGEST}")
        check("norm_eps", self.norm_eps, is_number(self.norm_eps) and self.norm_eps > 0, "a number above 0")
        check(
            "bottleneck",
            self.bottleneck,
            self.bottleneck is None or is_count(self.bottleneck),
            f"a width from 1 to {LARGEST}, or none (on the command line 0) for the model's own",
        )
        check("norm", self.norm, isinstance(self.norm, bool), "true or false")


class Gate(nn.Module, ABC):
    """norm -> down -> mixer (residual) -> out. Subclasses, one a file, say which mixer at which width."""

    def __init__(self, config: ExitConfig) -> None:
        super().__init__()
        width = config.bottleneck or config.hidden_size
        self.norm = RMSNorm(config.hidden_size, config.norm_eps) if config.norm else nn.Identity()
        self.mixer = self.make_mixer(width)
        linear_only = isinstance(self.mixer, Identity)
        narrow = config.bottleneck is not None and not linear_only
        self.down = nn.Linear(config.hidden_size, width) if narrow else nn.Identity()
        self.out = nn.Linear(config.hidden_size if linear_only else width, 1)

    @abstractmethod
    def make_mixer(self, width: int) -> Mixer:
        """The mixer at `width`; `Identity` for a gate without memory (then there is no bottleneck)."""

    def _value(self, y_RTr: Tensor, mixed_RTr: Tensor) -> Tensor:
        y_RTr = mixed_RTr if isinstance(self.mixer, Identity) else y_RTr + mixed_RTr
        return self.out(y_RTr).squeeze(-1)

    def _narrow(self, h_RTD: Tensor) -> Tensor:
        """What the mixer reads. The residual stream may be wider than the gate's weights (residual_in_fp32)."""
        return self.down(self.norm(h_RTD).to(self.out.weight.dtype))

    def forward(
        self,
        h_RTD: Tensor,
        state: State | None = None,
        rows: Sequence[int] | None = None,
        n: Sequence[int] | None = None,
    ) -> Tensor:
        """Gate logits `[R, T]`; see `Mixer.forward` for the meaning of the state."""
        y_RTr = self._narrow(h_RTD)
        return self._value(y_RTr, self.mixer(y_RTr, state, rows, n))

    def prefill(self, h_RTD: Tensor, state: State, rows: Sequence[int]) -> None:
        """A prompt cell: the state advances, nothing is decided in a prompt."""
        self.mixer.prefill(self._narrow(h_RTD), state, rows)

    def advance(self, h_RTD: Tensor, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        self.mixer.advance(self._narrow(h_RTD), state, rows, n)


class Bridge(nn.Module, ABC):
    """hidden state at an exit -> what the shared norm and head read.

    A bridge that `borrows_last_block` has no state of its own: the engine runs the model's last block for it, on
    that block's committed state, and what it leaves there is the token's tail entry (design section 2).
    """

    borrows_last_block: ClassVar[bool] = False

    def __init__(self, config: ExitConfig) -> None:
        super().__init__()
        self.mixer: Mixer = Identity()

    @abstractmethod
    def forward(
        self,
        h_RTD: Tensor,
        state: State | None = None,
        rows: Sequence[int] | None = None,
        n: Sequence[int] | None = None,
    ) -> Tensor:
        """Hidden states `[R, T, D]` for the shared norm and head."""

    def prefill(self, h_RTD: Tensor, state: State, rows: Sequence[int]) -> None:
        """A prompt cell: the state advances. A bridge without state only counts the tokens."""
        self.mixer.prefill(h_RTD, state, rows)

    def advance(self, h_RTD: Tensor, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        self.mixer.advance(h_RTD, state, rows, n)


class Exit(nn.Module):
    """A gate and a bridge after `after` blocks."""

    def __init__(self, after: int, gate: Gate, bridge: Bridge) -> None:
        super().__init__()
        self.after, self.gate, self.bridge = after, gate, bridge
