"""Gates of equal size: which bottleneck gives a gate so many parameters.

Which kind of gate is best can only be said of gates that cost alike.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache

from offramp.errors import UsageError
from offramp.exits.base import ExitConfig, Gate
from offramp.models.shapes import shapes_only
from offramp.registry import find, unknown

SIZES = {"small": 64, "medium": 192, "large": 384}
"""Parameters of a gate for every dimension of the model's hidden states: on the twins about 3, 10 and 19 % of one
of the Transformer's blocks, and as many hidden units of the gate `mlp`."""
EQUAL = ("mlp", "transformer", "mamba")
"""Gates that are compared at equal size. A linear one has but one size."""
TOLERANCE = 0.02
WIDEST = 1024
"""Inner width that is looked at in any case: gates of small models may be wider than they."""


@lru_cache(maxsize=4096)  # to find one size looks at a hundred, most of them several times
def gate_parameters(gate: str, hidden_size: int, bottleneck: int | None, norm: bool = True) -> int:
    """The number of weights of one gate. Raises UsageError for a width that it cannot have."""
    config = ExitConfig(gate, "none", (1,), hidden_size, 1e-5, bottleneck, norm)
    with shapes_only():
        made = find("offramp.exits.gates", gate, Gate)(config)
    return sum(weight.numel() for weight in made.parameters())


def gate_of_size(gate: str, hidden_size: int, parameters: int) -> int:
    """The bottleneck that brings a gate nearest to `parameters` weights.

    Raises UsageError for a gate whose size no bottleneck changes.
    """
    even = range(2, max(4 * hidden_size, WIDEST) + 2, 2)  # a width that every mixer can have
    if gate_parameters(gate, hidden_size, even[0]) == gate_parameters(gate, hidden_size, even[-1]):
        raise UsageError(f"gate {gate!r} has no inner width, so it has but one size")
    place = bisect_left(even, parameters, key=lambda width: gate_parameters(gate, hidden_size, width))
    middle = even[min(place, len(even) - 1)]
    near = [
        width for width in range(middle - 3, middle + 3) if width > 0 and _exists(gate, hidden_size, width)
    ]
    return min(near, key=lambda width: abs(gate_parameters(gate, hidden_size, width) - parameters))


def common_size(hidden_size: int, parameters: int) -> int:
    """The number of weights nearest to `parameters` that all of EQUAL can have within TOLERANCE."""
    middle = gate_of_size("transformer", hidden_size, parameters)  # whose widths are the fewest
    widths = range(max(2, middle - 16), middle + 18, 2)
    targets = [gate_parameters("transformer", hidden_size, width) for width in widths]
    apart = {target: _spread(hidden_size, target) for target in targets}
    close = [target for target, spread in apart.items() if spread <= TOLERANCE]
    if not close:
        return min(apart, key=lambda target: apart[target])
    return min(close, key=lambda target: abs(target - parameters))


def equal_bottleneck(gate: str, hidden_size: int, size: str) -> int:
    """The bottleneck of a gate of one of SIZES, equal in weights to the others of EQUAL.

    Raises UsageError for another size.
    """
    if size not in SIZES:
        raise UsageError(unknown("size", size, SIZES))
    return gate_of_size(gate, hidden_size, common_size(hidden_size, SIZES[size] * hidden_size))


def _spread(hidden_size: int, target: int) -> float:
    """How much larger the largest of EQUAL is than the smallest, each as near to the target as it comes."""
    widths = {gate: gate_of_size(gate, hidden_size, target) for gate in EQUAL}
    counts = [gate_parameters(gate, hidden_size, width) for gate, width in widths.items()]
    return max(counts) / min(counts) - 1


def _exists(gate: str, hidden_size: int, width: int) -> bool:
    try:
        gate_parameters(gate, hidden_size, width)
    except UsageError:
        return False
    return True
