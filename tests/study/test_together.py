"""Exit sets that learn together end where each ends alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from offramp.data.documents import Documents
from offramp.exits.base import BridgeConfig, ExitConfig
from offramp.exits.exit_set import ExitSet, build_exits
from offramp.models.base import Model
from offramp.study.together import Lesson, Student, train_together
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.exits import train_exits
from offramp.training.loop import Limits
from offramp.training.observe import observe
from tests.training.tiny import WIDTH, counting_documents, tiny_model

BLOCKS = 6
CONFIG = ExitTrainConfig(steps=8, tokens_per_step=128, window=32, warmup_steps=2, seed=3)


def exits(gate: str, bridge: str = "none", **more: object) -> ExitSet:
    config = ExitConfig(gate, bridge, (2, 4), WIDTH, 1e-5, bottleneck=8, bridge_config=BridgeConfig(**more))  # type: ignore[arg-type]
    return build_exits(config, BLOCKS, seed=1)


def documents() -> Documents:
    return Documents(counting_documents(30, 31), counting_documents(6, 31, seed=1), "counting")


def students() -> list[Student]:
    relaxed = replace(
        CONFIG, label="oracle_in_exit_topk", label_k=3, optimizer="schedulefree", warmup_steps=0
    )
    return [
        Student("linear", exits("linear"), CONFIG),
        Student("mlp", exits("mlp"), replace(CONFIG, balance=True)),
        Student("mamba", exits("mamba"), CONFIG),
        Student("transformer", exits("transformer"), relaxed),
        Student("lens", exits("mlp", "lens", rank=4), CONFIG),
        Student("code", exits("linear", "last_block"), replace(relaxed, label_reads="exit")),
    ]


def alone(model: Model, student: Student, folder: Path) -> ExitSet:
    found = build_exits(student.exits.config, BLOCKS, seed=1)
    train_exits(model, found, documents(), student.config, folder / student.name)
    return found


def test_together_and_alone_end_with_the_same_weights(tmp_path: Path) -> None:
    model, group = tiny_model(BLOCKS), students()
    before = {s.name: {k: v.clone() for k, v in s.exits.state_dict().items()} for s in group}
    assert train_together(model, group, documents(), "", tmp_path / "run").finished
    for student in group:
        expected = alone(model, student, tmp_path).state_dict()
        for name, weight in student.exits.state_dict().items():
            torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-6)
        moved = [
            not torch.equal(weight, before[student.name][k])
            for k, weight in student.exits.state_dict().items()
        ]
        assert all(moved) if student.name != "lens" else any(moved)


def test_a_stopped_lesson_goes_on_where_it_was(tmp_path: Path) -> None:
    model = tiny_model(BLOCKS)
    whole, halves = students()[:3], students()[:3]
    train_together(model, whole, documents(), "", tmp_path / "whole")
    stopped = train_together(model, halves, documents(), "", tmp_path / "half", Limits(max_seconds=0))
    assert not stopped.finished
    again = students()[:3]
    assert train_together(model, again, documents(), "", tmp_path / "half").finished
    for one, other in zip(whole, again, strict=True):
        for name, weight in one.exits.state_dict().items():
            assert torch.equal(weight, other.exits.state_dict()[name])


@pytest.mark.parametrize("number", range(6))
def test_a_lesson_sees_what_a_run_alone_sees(number: int) -> None:
    model, student = tiny_model(BLOCKS).eval(), students()[number]
    rows = counting_documents(5, 20) + counting_documents(3, 11)
    distil = student.exits.bridges_learn
    seen = Lesson(model, rows).observe(student.exits, student.config, distil)
    expected = observe(model, student.exits, rows, student.config, distil)
    for mine, theirs in (
        (seen.gates_EN, expected.gates_EN),
        (seen.labels_EN, expected.labels_EN),
        (seen.agreed_EN, expected.agreed_EN),
        (seen.kl_EN, expected.kl_EN),
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)


def test_students_that_read_other_batches_cannot_learn_together(tmp_path: Path) -> None:
    group = [Student("a", exits("mlp"), CONFIG), Student("b", exits("mlp"), replace(CONFIG, seed=4))]
    with pytest.raises(AssertionError, match="same batches"):
        train_together(tiny_model(BLOCKS), group, documents(), "", tmp_path)
