"""A calibration from documents to a certificate: its losses are those of replies made by hand, and it resumes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_calibration import items, parts, tiny_checkpoint

from offramp.calibration.calibrate import Calibration, Plan, calibrate
from offramp.calibration.collect import SEEDS
from offramp.calibration.risk import fixed_sequence
from offramp.engine.engine import Engine
from offramp.engine.load import Checkpoint
from offramp.engine.promise import under
from offramp.engine.request import Request, Sampling
from offramp.errors import DataError, ExitsError, UsageError
from offramp.evaluation.agreement import full_choices
from offramp.evaluation.setting import Setting
from offramp.exits.certificates import save_certificate

DEFER = Setting("tiny", "defer")
LOOSE = Plan(risk=0.7, confidence=0.7, max_tokens=6, steps=3, setting=DEFER)


@pytest.fixture(scope="module")
def loose(checkpoint: Checkpoint) -> Calibration:
    """At a risk so high that something leaves."""
    return calibrate(checkpoint, parts(), replace(LOOSE, every_step=True))


def test_losses_are_those_of_free_runs(checkpoint: Checkpoint, loose: Calibration) -> None:
    """Made again one by one, alone in an engine, and judged token by token."""
    engine = Engine(checkpoint.model, checkpoint.exits)
    for step, losses in zip(loose.certificate.path[1:], loose.losses, strict=True):
        for item, loss in list(zip(parts()["calibrate"], losses, strict=True))[:5]:
            request = Request(item.prompt, "defer", thresholds=step.thresholds, max_tokens=6)
            said = engine.generate(request).tokens
            full = full_choices(checkpoint.model, item.prompt, said, Sampling())
            assert loss == pytest.approx(sum(a != b for a, b in zip(said, full, strict=True)) / len(said))
    assert any(map(any, loose.losses))


def test_the_verdict_follows_from_the_losses(loose: Calibration) -> None:
    found = loose.certificate
    verdict = fixed_sequence(loose.losses, found.risk, found.confidence)
    assert found.chosen == verdict.passed > 0 and not found.never
    assert [step.p for step in found.path[1 : 1 + len(verdict.tested)]] == [one.p for one in verdict.tested]
    assert found.documents == 10 and found.test_documents == 4 and found.test_loss is not None


def test_what_was_certified_runs_and_no_more_than_that(checkpoint: Checkpoint, loose: Calibration) -> None:
    engine = Engine(checkpoint.model, checkpoint.exits)
    request = under(loose.certificate, Request(items(1)[0].prompt, max_tokens=6))
    assert engine.generate(request).tokens
    with pytest.raises(UsageError, match="run_max"):
        engine.generate(replace(request, run_max=3))


def test_never_where_documents_are_too_few(checkpoint: Checkpoint) -> None:
    found = calibrate(checkpoint, parts(), replace(LOOSE, risk=0.01)).certificate
    assert found.never and set(found.thresholds) == {1.0}
    assert found.needed is None or found.needed > 10
    reply = Engine(checkpoint.model, checkpoint.exits).generate(
        under(found, Request(items(1)[0].prompt, max_tokens=6))
    )
    assert {event.depth for event in reply.events} == {4}


@pytest.mark.parametrize(
    ("metric", "propagation"), [("consistency", "skip"), ("exact_match", "defer"), ("f1", "project")]
)
def test_other_metrics_compare_with_the_full_models_reply(
    checkpoint: Checkpoint, metric: str, propagation: str
) -> None:
    """Without a tokenizer all texts are empty: nothing is lost, which the guarantee takes as it is."""
    asked = {name: [replace(item, answers=("a",)) for item in some] for name, some in parts().items()}
    plan = replace(LOOSE, metric=metric, setting=Setting("tiny", propagation))
    found = calibrate(checkpoint, asked, plan)
    assert not any(map(any, found.losses)) and found.certificate.chosen == len(found.certificate.path) - 1


def test_sampled_documents_have_noise_of_their_own(checkpoint: Checkpoint) -> None:
    warm = replace(DEFER, sampling=Sampling(temperature=1.0, seed=3))
    found = calibrate(checkpoint, parts(), replace(LOOSE, setting=warm, every_step=True, steps=1))
    engine, bars = Engine(checkpoint.model, checkpoint.exits), found.certificate.path[1].thresholds

    def loss(prompt: tuple[int, ...], seed: int) -> float:
        sampling = replace(warm.sampling, seed=seed)
        request = Request(prompt, "defer", thresholds=bars, sampling=sampling, max_tokens=6)
        said = engine.generate(request).tokens
        full = full_choices(checkpoint.model, prompt, said, sampling)
        return sum(a != b for a, b in zip(said, full, strict=True)) / len(said)

    prompts = [item.prompt for item in parts()["calibrate"]]
    own, shared = ([loss(p, 3 * SEEDS + i * own) for i, p in enumerate(prompts)] for own in (1, 0))
    assert list(found.losses[0]) == own != shared


def test_copies_count_once(checkpoint: Checkpoint) -> None:
    """Else a file that was pasted twenty times would prove anything."""
    once = calibrate(checkpoint, parts(), LOOSE)
    pasted = [replace(item, id=f"{item.id}, {i}") for i in range(20) for item in parts()["calibrate"]]
    again = parts() | {"calibrate": pasted, "test": [parts()["calibrate"][0], *parts()["test"]]}
    found = calibrate(checkpoint, again, LOOSE)
    assert found.losses == once.losses
    assert replace(found.certificate, data=once.certificate.data) == once.certificate


def test_an_interrupted_calibration_goes_on(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Stopped in the third step, it runs no document of the first two again, and ends as one that was not stopped."""
    plan = replace(LOOSE, every_step=True)
    whole = calibrate(checkpoint, parts(), plan)

    def stop(name: str, done: int, count: int) -> None:
        if name.startswith("step 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(checkpoint, parts(), plan, memory=tmp_path, progress=stop)
    ran: list[str] = []
    again = calibrate(
        checkpoint, parts(), plan, memory=tmp_path, progress=lambda name, done, count: ran.append(name)
    )
    assert again == whole
    assert not {"step 1 of 3", "step 2 of 3"} & set(ran) and "step 3 of 3" in ran


def test_what_was_found_for_others_is_not_taken(checkpoint: Checkpoint, tmp_path: Path) -> None:
    calibrate(checkpoint, parts(), LOOSE, memory=tmp_path)
    for path in tmp_path.iterdir():  # a lie about everything that is known
        path.write_text(json.dumps({"losses": [1.0] * 10, "depths": [4.0] * 10}))
    lied = calibrate(checkpoint, parts(), LOOSE, memory=tmp_path)
    assert lied.certificate.never
    for change in ({"max_tokens": 5}, {"setting": replace(DEFER, run_max=3)}):
        assert set(calibrate(checkpoint, parts(), replace(LOOSE, **change), memory=tmp_path).losses[0]) != {
            1.0
        }
    path.write_text("{")  # half a file is found anew
    assert calibrate(checkpoint, parts(), LOOSE, memory=tmp_path)


def test_one_pass_serves_agreement_under_defer(checkpoint: Checkpoint) -> None:
    """Where every loss of the free run is 0, tokens left as they did there; else it approximates, and says so."""
    plan = replace(LOOSE, teacher_forced=True, every_step=True)
    forced, free = (
        calibrate(checkpoint, parts(), plan),
        calibrate(checkpoint, parts(), replace(plan, teacher_forced=False)),
    )
    assert forced.certificate.teacher_forced and not free.certificate.teacher_forced
    agreed = 0
    for forced_D, free_D in zip(forced.losses, free.losses, strict=True):
        for one, other in zip(forced_D, free_D, strict=True):
            agreed += one == other == 0
            assert (one == 0) == (other == 0)  # the first mistake is the same in both
    assert agreed and any(map(any, forced.losses))
    for one, other in zip(forced.certificate.path[1:2], free.certificate.path[1:2], strict=True):
        assert one.thresholds == other.thresholds


@pytest.mark.parametrize(
    "change",
    [
        {"metric": "consistency"},
        {"setting": Setting("x", "skip")},
        {"setting": Setting("x", "defer", "margin")},
    ],
)
def test_what_one_pass_cannot_tell_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="teacher-forced"):
        replace(LOOSE, teacher_forced=True, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", ["confidence", "budget"])
def test_other_policies_have_a_path_too(checkpoint: Checkpoint, policy: str) -> None:
    found = calibrate(checkpoint, parts(8), replace(LOOSE, setting=Setting("x", "defer", policy)))
    assert found.certificate.binding.policy == policy and len(found.losses) >= 1


def test_what_cannot_be_calibrated_is_refused(checkpoint: Checkpoint) -> None:
    for wrong, words in (
        ({"risk": 0.0}, "risk"),
        ({"confidence": 1.0}, "confidence"),
        ({"metric": "agrement"}, "Did you mean 'agreement'"),
        ({"setting": Setting("x", "verify")}, "no risk to calibrate"),
        ({"setting": Setting("x", "defer", "always")}, "no threshold"),
    ):
        with pytest.raises(UsageError, match=words):
            replace(LOOSE, **wrong)  # type: ignore[arg-type]
    for plan, words in (
        (replace(LOOSE, metric="f1"), "right answers"),
        (replace(LOOSE, max_tokens=100), "context"),
        (replace(LOOSE, steps=0), "steps"),
    ):
        with pytest.raises(UsageError, match=words):
            calibrate(checkpoint, parts(), plan)
    with pytest.raises(DataError, match="calibrate"):
        calibrate(checkpoint, parts(0), LOOSE)
    with pytest.raises(ExitsError, match="no exits"):
        calibrate(replace(checkpoint, exits=None), parts(), LOOSE)


def test_a_second_look_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """Choosing among several calibrations voids the guarantee; the same one again is no second look."""
    own = tiny_checkpoint(tmp_path)
    assert own.exits_folder is not None
    first = calibrate(own, parts(), LOOSE)
    save_certificate(first.certificate, own.exits_folder)
    other = parts() | {"calibrate": items(10, 9)}
    ran: list[str] = []
    with pytest.raises(ExitsError, match="--replace"):
        calibrate(own, other, LOOSE, progress=lambda name, done, count: ran.append(name))
    assert not ran
    assert calibrate(own, parts(), LOOSE).certificate == first.certificate
    with pytest.raises(ExitsError, match="--replace"):
        calibrate(own, parts(), replace(LOOSE, steps=2))
    calibrate(own, other, replace(LOOSE, max_tokens=5))  # another promise
    assert calibrate(own, other, LOOSE, replace_earlier=True).certificate.data != first.certificate.data


def test_one_that_does_not_fit_is_no_loss_but_an_error(checkpoint: Checkpoint) -> None:
    with pytest.raises(UsageError, match="thresholds"):
        Engine(checkpoint.model, checkpoint.exits).generate(
            replace(Request((1, 2)), thresholds=(0.1, 0.2, 0.3))
        )
