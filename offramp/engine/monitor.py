"""Agreement on verified traffic, for nothing: every draft that the last segment judges says whether an exit was right.

Where a certificate says between what shares this lay when it was made, one warning is logged when traffic leaves
them: prompts have then changed, and what was certified about lossy replies may no longer be true.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import scipy  # type: ignore[import-untyped]  # `special` comes when it is first used: a first token needs none

from offramp.exits.certificate import Certificate

log = logging.getLogger("offramp")

SURE = 0.999
"""Of the traffic's own interval. Drafts of one text are no independent draws, and it is looked at again and again."""
FEWEST = 200
"""Judged drafts before anything is said."""
LOG_EVERY = 10_000
"""Judged drafts between two lines that only inform."""


@dataclass(frozen=True)
class Agreement:
    """Of drafts that were judged (those behind a rejected one never are), how many the last segment chose as well."""

    judged: int = 0
    accepted: int = 0

    @property
    def share(self) -> float | None:
        return self.accepted / self.judged if self.judged else None

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Clopper and Pearson's, as if drafts were independent; (0, 1) where there are none."""
        return clopper_pearson(self.accepted, self.judged, confidence)

    def more(self, judged: int, accepted: int) -> Agreement:
        """With so many more."""
        return Agreement(self.judged + judged, self.accepted + accepted)


@dataclass
class Monitor:
    """Counts over all verified rows; `watch` gives what counts for those that carry a certificate."""

    agreement: Agreement = Agreement()
    _watches: dict[Certificate | None, Watch] = field(default_factory=dict)

    def watch(self, certificate: Certificate | None) -> Watch:
        """What a row tells of its drafts: one for all rows with one certificate."""
        return self._watches.setdefault(certificate, Watch(self, certificate))

    def judged(self, drafts: int, accepted: int) -> None:
        """So many drafts of a row were judged, so many accepted."""
        before = self.agreement.judged
        self.agreement = self.agreement.more(drafts, accepted)
        if self.agreement.judged // LOG_EVERY > before // LOG_EVERY:
            low, high = self.agreement.interval()
            log.info("agreement of %d verified drafts: %.4f to %.4f", self.agreement.judged, low, high)


@dataclass
class Watch:
    """Counts of the rows with one certificate, or with none, and whether a warning has been given."""

    monitor: Monitor
    certificate: Certificate | None
    seen: Agreement = Agreement()
    warned: bool = False

    def judged(self, drafts: int, accepted: int) -> None:
        """So many drafts of a row were judged, so many accepted."""
        self.monitor.judged(drafts, accepted)
        self.seen = self.seen.more(drafts, accepted)
        known = self.certificate.accepted if self.certificate is not None else None
        if known is not None and not self.warned and self.seen.judged >= FEWEST:
            self._compare(*known)

    def _compare(self, certified_low: float, certified_high: float) -> None:
        """Warn where the traffic's interval and the certified one do not touch."""
        low, high = self.seen.interval(SURE)
        if high >= certified_low and low <= certified_high:
            return
        assert self.certificate is not None
        self.warned = True
        log.warning(
            "the full model agrees with %.3f of %d verified drafts; it was %.3f to %.3f when thresholds were "
            "calibrated (%s, risk %g). The prompts have changed: the guarantee is void for them.",
            *(self.seen.share, self.seen.judged, certified_low, certified_high),
            *(self.certificate.metric, self.certificate.risk),
        )


def clopper_pearson(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    """The exact interval of a share; (0, 1) of no trials."""
    tail = (1 - confidence) / 2
    inverse = scipy.special.betaincinv
    low = float(inverse(successes, trials - successes + 1, tail)) if successes else 0.0
    high = float(inverse(successes + 1, trials - successes, 1 - tail)) if successes < trials else 1.0
    return low, high
