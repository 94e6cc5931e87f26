"""The exit contract: a gate and a bridge after a block.

Gate (design section 2): optional norm -> Linear(D, r) -> mixer at width r -> Linear(1). Its value is the sigmoid
of that logit: the estimated probability that the token the bridge would emit is the full model's.
Bridge: hidden state -> what the shared norm and head read.
Both are trunks with a small head: `read` advances their memory, for every token pushed through their segment.

Whole sequences are `[R, T, D]`; with a state tokens are packed, `[N, D]`, as for `Mixer.forward`. What is said of a
token has the shape that is left: gate logits `[R, T]` or `[N]`.

Shapes: R rows, T tokens of each, N tokens of all rows in this call, packed, D width, r inner width, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from offramp.exits.config import BridgeConfig as BridgeConfig
from offramp.exits.config import ExitConfig as ExitConfig
from offramp.exits.short_list import ShortList
from offramp.exits.trunk import Trunk
from offramp.mixers.base import Mixer, State


class Gate(Trunk, ABC):
    """norm -> down -> mixer (residual) -> out. Subclasses, one a file, say which mixer at which width.

    abstains: it has nothing to say, so only policies that ask no gate can use it.
    """

    abstains: ClassVar[bool] = False

    def __init__(self, config: ExitConfig) -> None:
        super().__init__()
        width = self.inner_width(config)
        self.make(config, width, self.make_mixer)
        self.out = nn.Linear(width or config.hidden_size, 1)

    @abstractmethod
    def make_mixer(self, width: int) -> Mixer:
        """The mixer at `width`; `Identity` for a gate without memory."""

    def inner_width(self, config: ExitConfig) -> int | None:
        """r; None reads the model's own width, with no map before."""
        return config.bottleneck

    def value(self, y: Tensor) -> Tensor:
        """Gate logits `[R, T]` or `[N]` of what `read` gave, `[..., r]`."""
        return self.out(y).squeeze(-1)

    def forward(
        self,
        h: Tensor,
        state: State | None = None,
        rows: Sequence[int] | None = None,
        n: Sequence[int] | None = None,
    ) -> Tensor:
        """Gate logits `[R, T]` or `[N]`; see `Mixer.forward` for the meaning of the state."""
        return self.value(self.read(h, state, rows, n))


class Bridge(Trunk, ABC):
    """Hidden state at an exit -> what the shared norm and head read. One without memory has the bare trunk.

    A bridge that `borrows_last_block` has no state of its own: the engine runs the model's last block for it, on
    that block's committed state, and what it leaves there is the token's tail entry (design section 2).
    reads: the fields of `BridgeConfig` that shape it.
    reads_gate: it has no trunk of its own either, and is given what the gate's trunk read.
    """

    borrows_last_block: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()
    reads_gate: bool = False

    def __init__(self, config: ExitConfig) -> None:
        super().__init__()

    @abstractmethod
    def hidden(self, h: Tensor, y: Tensor) -> Tensor:
        """Hidden states for the shared norm and head, in the shape of h. y `[..., r]`: what `read` gave, of h by
        itself."""

    def forward(
        self,
        h: Tensor,
        state: State | None = None,
        rows: Sequence[int] | None = None,
        n: Sequence[int] | None = None,
    ) -> Tensor:
        """`hidden` of whole sequences, or of the next tokens; see `Mixer.forward` for the meaning of the state."""
        return self.hidden(h, self.read(h, state, rows, n))


class Exit(nn.Module):
    """A gate and a bridge after `after` blocks. short_list: what its drafts are chosen among; None is every token."""

    short_list: ShortList | None

    def __init__(self, after: int, gate: Gate, bridge: Bridge, short_list: ShortList | None = None) -> None:
        super().__init__()
        self.after, self.gate, self.bridge = after, gate, bridge
        self.register_module("short_list", short_list)

    def drafted(self, logits: Tensor) -> Tensor:
        """What drafts are chosen from, of the bridge's logits `[..., V]`: minus infinity for what is not listed."""
        return logits if self.short_list is None else self.short_list.among(logits)

    def forward(
        self,
        h: Tensor,
        gate_state: State | None = None,
        bridge_state: State | None = None,
        rows: Sequence[int] | None = None,
        n: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Gate logits `[R, T]` or `[N]`, and bridged hidden states in the shape of h; a trunk that both read advances
        once."""
        if not self.bridge.reads_gate:
            return self.gate(h, gate_state, rows, n), self.bridge(h, bridge_state, rows, n)
        y = self.gate.read(h, gate_state, rows, n)
        return self.gate.value(y), self.bridge.hidden(h, y)
