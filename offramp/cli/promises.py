"""`--risk`: from what was asked for to the certificate that covers it; lossy replies without one, or thresholds, are
refused."""

from __future__ import annotations

from offramp.cli.options import Leaving
from offramp.engine.load import Checkpoint
from offramp.engine.promise import Facts, broken, under
from offramp.engine.request import Request
from offramp.errors import UsageError
from offramp.exits.certificate import Certificate
from offramp.exits.certificates import certificates_of
from offramp.propagation.base import Propagation
from offramp.registry import find

WITHOUT_THRESHOLDS = ("never", "always")
"""Policies that read none: to name them is to say what shall leave."""
LISTED = 8
DEFAULT = "verify"


def promised(checkpoint: Checkpoint, request: Request, leaving: Leaving) -> Request:
    """The request as the certificate for `--risk` has it leave; without `--risk`, as it is.

    Raises UsageError where no certificate covers what is asked for, and for a lossy request that says neither what risk
    nor what thresholds.
    """
    if leaving.risk is None:
        _refuse_unsaid(checkpoint, request, leaving)
        return request
    facts = Facts.of(checkpoint.model, checkpoint.exits or ())
    level = sorted(_of(checkpoint), key=lambda one: (-one.risk, -one.confidence, one.teacher_forced))
    problems = {one: broken(one, under(one, request), facts) for one in level if _is_wanted(one, leaving)}
    sound = [one for one, problem in problems.items() if not problem]
    if not sound:
        raise UsageError(_nothing_fits(checkpoint, leaving, next(iter(problems.values()), "")))
    propagations = sorted({one.binding.propagation for one in sound})
    if len(propagations) > 1:
        raise UsageError(
            f"several propagations are certified for that: name one with --propagation: {', '.join(propagations)}."
        )
    return under(sound[0], request)


def stated(certificate: Certificate) -> str:
    """In a line what is promised."""
    level = f"{certificate.metric} risk {certificate.risk:g}, confidence {certificate.confidence:g}"
    if certificate.never:
        return f"certified: nothing may leave ({level}): every token goes all the way."
    how = ", from teacher-forced losses" if certificate.teacher_forced else ""
    return (
        f"certified: {level}, {certificate.binding.propagation}, on {certificate.documents} documents{how}; for "
        "prompts like those."
    )


def _refuse_unsaid(checkpoint: Checkpoint, request: Request, leaving: Leaving) -> None:
    lossy = not find("offramp.propagation", request.propagation, Propagation).judged
    said = leaving.threshold is not None or request.policy in WITHOUT_THRESHOLDS
    if lossy and not said and checkpoint.exits is not None:
        raise UsageError(
            f"{request.propagation} changes the text: say how much with --risk (what `offramp calibrate` certified), "
            "or where with --threshold 0.9, say. --propagation verify keeps the full model's own text."
        )


def _of(checkpoint: Checkpoint) -> list[Certificate]:
    return certificates_of(checkpoint.exits_folder) if checkpoint.exits_folder is not None else []


def _is_wanted(certificate: Certificate, leaving: Leaving) -> bool:
    """Whether it promises at least what is asked for."""
    assert leaving.risk is not None
    named = leaving.propagation in (DEFAULT, certificate.binding.propagation)
    level = certificate.risk <= leaving.risk and certificate.confidence >= leaving.confidence
    return (
        named
        and level
        and (certificate.metric, certificate.binding.policy) == (leaving.metric, leaving.policy)
    )


def _nothing_fits(checkpoint: Checkpoint, leaving: Leaving, problem: str) -> str:
    found = _of(checkpoint)
    known = [f"{one.metric} {one.risk:g} {one.binding.propagation}" for one in found[:LISTED]]
    there = (
        f"there are: {', '.join(known)}{', ...' if len(found) > LISTED else ''}" if known else "there is none"
    )
    propagation = leaving.propagation if leaving.propagation != DEFAULT else "defer"
    exits = f" --exits {leaving.exits}" if leaving.exits else ""
    nearest = f"In the nearest one {problem}. " if problem else ""
    return (
        f"no certificate covers this ({there}). {nearest}`offramp calibrate {checkpoint.folder}{exits} --data FILE "
        f"--risk {leaving.risk:g} --metric {leaving.metric} --propagation {propagation}` makes one."
    )
