"""The test behind a guarantee: is the expected loss at most `risk`? (Learn then Test, arXiv 2110.01052.)

One loss in [0, 1] a document. p-values hold for any number of documents and any distribution: Hoeffding-Bentkus for
losses in [0, 1] (arXiv 2101.02703, theorem 1), the exact binomial for losses that are 0 or 1. Steps are tested from
the safest on at full level each, and the first that fails ends it: then no correction for their number is due.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy.special import bdtr  # type: ignore[import-untyped]

from offramp.errors import UsageError

MOST_DOCUMENTS = 1 << 30


@dataclass(frozen=True)
class Tested:
    """A step's mean loss, and the p-value of the hypothesis that its expected loss is above the risk."""

    loss: float
    p: float
    passed: bool


@dataclass(frozen=True)
class Verdict:
    """tested: from the safest step on, up to the first that failed. needed: about how many documents would have let
    the safest pass with the loss it had; None where it passed, and where no number would do."""

    tested: tuple[Tested, ...]
    needed: int | None = None

    @property
    def passed(self) -> int:
        """How many steps passed; the last of them is kept. 0: never."""
        return sum(step.passed for step in self.tested)


def fixed_sequence(
    losses_SD: Iterable[Sequence[float]], risk: float, confidence: float, binary: bool = False
) -> Verdict:
    """Test steps x documents in order, and take no step behind the first that fails: with probability `confidence`
    every step that passed has an expected loss of at most `risk`.

    binary: whether losses can only be 0 or 1, whatever was drawn. Raises UsageError as `p_value` does.
    """
    check_levels(risk, confidence)
    tested: list[Tested] = []
    for losses_D in losses_SD:
        p = p_value(losses_D, risk, binary)
        tested.append(Tested(_mean(losses_D), p, p <= 1 - confidence))
        if not tested[-1].passed:
            break
    if not tested or tested[0].passed:
        return Verdict(tuple(tested))
    return Verdict(tuple(tested), documents_needed(tested[0].loss, risk, confidence, binary))


def p_value(losses_D: Sequence[float], risk: float, binary: bool = False) -> float:
    """Of the hypothesis that the expected loss is above `risk`.

    Raises UsageError for no losses, for one outside [0, 1] or no number, and for others than 0 and 1 where `binary`.
    """
    if not len(losses_D):
        raise UsageError("there are no losses to test; calibration needs documents.")
    wrong = [loss for loss in losses_D if not 0 <= loss <= 1 or (binary and loss not in (0, 1))]
    if wrong:
        raise UsageError(f"a loss is {wrong[0]}; it must be {'0 or 1' if binary else 'in [0, 1]'}.")
    return _p(math.fsum(losses_D), len(losses_D), risk, binary)


def _p(total: float, documents: int, risk: float, binary: bool) -> float:
    if binary:
        return exact_binomial(round(total), documents, risk)
    return hoeffding_bentkus(total, documents, risk)


def exact_binomial(failures: int, documents: int, risk: float) -> float:
    """Probability of at most so many failures where each document fails with probability `risk`."""
    return float(bdtr(failures, documents, risk))


def hoeffding_bentkus(total: float, documents: int, risk: float) -> float:
    """The smaller of Hoeffding's and Bentkus's bound on a total loss this small where its mean is `risk`."""
    mean = total / documents
    if mean >= risk:
        return 1.0
    hoeffding = math.exp(-documents * divergence(mean, risk))
    bentkus = math.e * exact_binomial(math.ceil(total), documents, risk)
    return min(1.0, hoeffding, bentkus)


def divergence(a: float, b: float) -> float:
    """Nats from a coin of probability b to one of probability a."""
    heads = a * math.log(a / b) if a > 0 else 0.0
    tails = (1 - a) * math.log((1 - a) / (1 - b)) if a < 1 else 0.0
    return heads + tails


def documents_needed(loss: float, risk: float, confidence: float, binary: bool = False) -> int | None:
    """About how many documents of this mean loss would pass; None where no number would do."""

    def passes(documents: int) -> bool:
        total = math.ceil(loss * documents) if binary else loss * documents
        return _p(total, documents, risk, binary) <= 1 - confidence

    enough = 1
    while not passes(enough):
        enough *= 2
        if loss >= risk or enough > MOST_DOCUMENTS:
            return None
    few = enough // 2
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if passes(middle) else (middle, enough)
    return enough


def check_levels(risk: float, confidence: float) -> None:
    """Raises UsageError for a level outside (0, 1)."""
    for name, value in (("risk", risk), ("confidence", confidence)):
        if not 0 < value < 1:
            raise UsageError(f"{name} is {value}; it must be between 0 and 1.")


def _mean(losses_D: Sequence[float]) -> float:
    return math.fsum(losses_D) / len(losses_D)
