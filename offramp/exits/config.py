"""What shapes a checkpoint's exits, as exits.json holds it."""

from __future__ import annotations

from dataclasses import dataclass, field

from offramp.exits.checks import LARGEST, check, is_count, is_number
from offramp.exits.positions import check_positions


@dataclass(frozen=True)
class BridgeConfig:
    """What a bridge with weights is made of; a bridge reads the fields that it names in `reads`.

    rank: inner width of the bridge `lens`.   width: inner width of the bridge `block`.
    mixer: of the bridge `block`: mamba, attention, or gate: it has no trunk but the gate's (see `trunk`).
    """

    rank: int = 64
    width: int = 64
    mixer: str = "mamba"

    def __post_init__(self) -> None:
        """Raises UsageError, naming the field, for what no bridge can be built from."""
        for name in ("rank", "width"):
            value = getattr(self, name)
            check(f"bridge {name}", value, is_count(value), f"an integer from 1 to {LARGEST}")
        check("bridge mixer", self.mixer, isinstance(self.mixer, str), "a name")


@dataclass(frozen=True)
class ExitConfig:
    """Everything that shapes one checkpoint's exits; written to exits.json.

    after: the exits sit after these many blocks, ascending.   bottleneck: r; None is the paper's full width.
    norm: of what gates and bridges read.   draft_vocabulary: how many tokens drafts are chosen among (see
    `short_list`); 0 is all of them.
    """

    gate: str
    bridge: str
    after: tuple[int, ...]
    hidden_size: int
    norm_eps: float
    bottleneck: int | None = 64
    norm: bool = True
    bridge_config: BridgeConfig = field(default_factory=BridgeConfig)
    draft_vocabulary: int = 0

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
        check("bridge_config", self.bridge_config, isinstance(self.bridge_config, BridgeConfig), "an object")
        check(
            "draft_vocabulary",
            self.draft_vocabulary,
            is_count(self.draft_vocabulary, least=0),
            f"a number of tokens from 1 to {LARGEST}, or 0 for all",
        )

    @property
    def gate_width(self) -> int:
        """The width at which a gate with a mixer works."""
        return self.bottleneck or self.hidden_size
