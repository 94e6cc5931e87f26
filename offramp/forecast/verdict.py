"""Whether it is worth it, and if not, why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offramp.engine.timings import Curve, Timings
from offramp.forecast.agreement import Agreement
from offramp.forecast.bound import gain_bound, gain_bound_alone, gain_bound_with_heads
from offramp.forecast.clock import Clock
from offramp.forecast.outlook import Outlook, best_cycle
from offramp.forecast.parts import Parts
from offramp.forecast.setting import PERFECT, Setting

WORTH = 1.05
"""Below it a gain is not worth training, keeping and explaining exits."""


@dataclass(frozen=True)
class Verdict:
    """exact: the best outlook whose text is the full model's own. lossy: the best of the others, None where none
    reaches WORTH and gains more. reason: why `exact` does not; empty where it does."""

    exact: Outlook
    lossy: Outlook | None
    reason: str

    @property
    def worth(self) -> bool:
        return not self.reason or self.lossy is not None


def verdict(outlooks: Sequence[Outlook], found: Sequence[Agreement], parts: Parts, clock: Clock) -> Verdict:
    """Of all outlooks, some of them under a judged propagation."""
    judged = [item for item in outlooks if _judged(item)]
    exact = max(judged, key=lambda item: item.best.expected)
    enough = max(WORTH, exact.best.expected)
    others = [item for item in outlooks if not _judged(item) and item.best.expected >= enough]
    lossy = max(others, key=lambda item: item.best.expected, default=None)
    return Verdict(exact, lossy, "" if exact.best.expected >= WORTH else _reason(exact, found, parts, clock))


def _judged(item: Outlook) -> bool:
    return Setting(item.after, propagation=item.propagation).kind.judged


def _reason(best: Outlook, found: Sequence[Agreement], parts: Parts, clock: Clock) -> str:
    """The first cause that would be enough to keep the gain below WORTH."""
    bound = gain_bound_alone if best.best.rows == 1 else gain_bound
    around = [(item, parts.reads(item.after, item.bridge)) for item in found]
    free, top = max(
        ((bound(item.share.value, reads.w), item) for item, reads in around), key=lambda pair: pair[0]
    )
    if free < WORTH:
        return (
            f"exits agree with the full model too seldom: {top.share.value:.0%} after {top.after} of "
            f"{len(parts.blocks)} blocks, which bounds any gain at {free:.2f}"
        )
    if best.best.most >= WORTH:
        return f"only a gate that is always right would gain as much as {best.best.most:.2f}"
    counted = max(gain_bound_with_heads(item.share.value, reads) for item, reads in around)
    if counted < WORTH:
        head = parts.head.weight_bytes / parts.reads(best.after, best.bridge).full
        return (
            f"the head is too expensive: it is {head:.0%} of what a pass reads, and every draft reads it again; with "
            f"head and gate the bound falls from {free:.2f} to {counted:.2f}"
        )
    return _slow(best, clock)


def _slow(best: Outlook, clock: Clock) -> str:
    """Passes cost more than their weights."""
    rows, setting = best.best.rows, Setting(best.after, best.bridge, best.propagation)
    timings, plain = clock.timings(setting, rows), clock.plain(rows)
    flat = Timings(_flat(timings.shallow, rows), _flat(timings.deep, rows), _flat(timings.draft, rows))
    if best_cycle(flat, plain, PERFECT.prospect(best.agreement, setting), rows)[0] >= WORTH:
        chunk = timings.deep.seconds(4 * rows) / timings.deep.seconds(rows)
        return (
            f"passes wait for arithmetic, not for weights: four times the tokens take the deep pass {chunk:.1f} times "
            "as long, so a chunk of drafts saves little"
        )
    shallow, draft = timings.shallow.seconds(rows) / plain, timings.draft.seconds(rows) / plain
    rest = timings.deep.seconds(rows) / plain
    return (
        f"two passes take more time here than one: to the exit after {best.after} blocks, with its gate, "
        f"{shallow:.0%} of a pass without exits, the rest {rest:.0%}, and a draft {draft:.0%}"
    )


def _flat(curve: Curve, rows: int) -> Curve:
    """As if a chunk took no longer than a token of each row."""
    return Curve(((1, curve.seconds(rows)),))
