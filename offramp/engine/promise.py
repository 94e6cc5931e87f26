"""Whether a request is what a certificate speaks of. Where anything differs, nothing is promised, so it is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace

from offramp.engine.request import Request, Sampling
from offramp.errors import UsageError
from offramp.exits.base import Exit
from offramp.exits.certificate import Binding, Certificate, Chosen
from offramp.exits.digest import exits_digest
from offramp.models.base import Model
from offramp.models.fingerprint import weights_digest
from offramp.models.quantised import number_format


@dataclass(frozen=True)
class Facts:
    """What an engine is made of, as certificates name it."""

    model: str
    exits: str
    dtype: str
    count: int

    @classmethod
    def of(cls, model: Model, exits: Iterable[Exit]) -> Facts:
        """The digests of the model and of its exits, the numbers' format, and how many exits there are."""
        exits = tuple(exits)
        return cls(weights_digest(model), exits_digest(exits), number_format(model), len(exits))


def binding_of(facts: Facts, bridge: str, request: Request) -> Binding:
    """What a certificate of replies to such requests would speak of: its prompt's length is the longest.

    Raises UsageError for what no certificate speaks of.
    """
    if problem := _uncertifiable(request):
        raise UsageError(f"{problem}: no certificate speaks of that.")
    return Binding(
        model=facts.model,
        exits=facts.exits,
        bridge=bridge,
        dtype=facts.dtype,
        propagation=request.propagation,
        policy=request.policy,
        run_max=request.run_max,
        sampling=chosen_by(request.sampling),
        stop=request.stop,
        max_tokens=request.max_tokens,
        prompt_tokens=len(request.prompt),
    )


def chosen_by(sampling: Sampling) -> Chosen:
    """All of it but the seed and the processor."""
    return Chosen(**{item.name: getattr(sampling, item.name) for item in fields(Chosen)})


def under(certificate: Certificate, request: Request) -> Request:
    """The request as the certificate has it leave: propagation, policy, thresholds, run_max.

    Sampling, stop strings and lengths stay as they are asked for; the engine refuses those that were not certified.
    """
    binding = certificate.binding
    return replace(
        request,
        propagation=binding.propagation,
        policy=binding.policy,
        thresholds=certificate.thresholds,
        run_max=binding.run_max,
        certificate=certificate,
    )


def check_promise(certificate: Certificate, request: Request, facts: Facts, judged: bool) -> None:
    """Raises UsageError naming the first thing that is not as certified, and what would be."""
    if problem := broken(certificate, request, facts, judged):
        raise UsageError(
            f"the certificate ({certificate.metric}, risk {certificate.risk:g}) does not hold here: {problem}. Ask as "
            "certified, calibrate for this with `offramp calibrate`, or leave the certificate out."
        )


def broken(certificate: Certificate, request: Request, facts: Facts, judged: bool = False) -> str:
    """The first thing about a request that is not as certified, in a few words; "" where all is.

    judged: the propagation's; such a reply is the full model's own, and keeps every promise.
    """
    for what, asked, certified in _differences(certificate, request, facts, judged):
        return f"{what} is {asked}, certified is {certified}"
    return _uncertifiable(request)


def _differences(
    certificate: Certificate, request: Request, facts: Facts, judged: bool
) -> Iterator[tuple[str, object, object]]:
    binding = certificate.binding
    for what, asked, certified in (
        ("the model's number format", facts.dtype, binding.dtype),
        ("the model (by its weights)", facts.model, binding.model),
        ("the exits (by their weights)", facts.exits, binding.exits),
        ("propagation", request.propagation, request.propagation if judged else binding.propagation),
        ("policy", request.policy, binding.policy),
        ("thresholds", _thresholds(request, facts.count), certificate.thresholds),
        ("run_max", request.run_max, binding.run_max),
        ("stop", request.stop, binding.stop),
        ("max_tokens", request.max_tokens, request.max_tokens if judged else binding.max_tokens),
    ):
        if asked != certified:
            yield what, _short(asked), _short(certified)
    asked_for, certified_for = asdict(chosen_by(request.sampling)), asdict(binding.sampling)
    for name, value in asked_for.items():
        if value != certified_for[name]:
            yield name, value, certified_for[name]
    if len(request.prompt) > binding.prompt_tokens:
        yield "the prompt's length in tokens", len(request.prompt), f"at most {binding.prompt_tokens}"


def _thresholds(request: Request, exits: int) -> tuple[float, ...]:
    """One for each exit."""
    given = request.thresholds
    return given * exits if len(given) == 1 else given


def _short(value: object) -> object:
    """A hash by its beginning, all else as it is."""
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else value


def _uncertifiable(request: Request) -> str:
    """What a request asks for that is calibrated for nothing; "" if nothing."""
    if request.sampling.processor is not None:
        return "the request has a logits processor"
    if request.forced:
        return "the request's reply is forced"
    return "the request ignores ends" if request.ignore_eos else ""
