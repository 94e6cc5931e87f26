"""Which jobs there are, and that they fit the time that is promised."""

from __future__ import annotations

from dataclasses import replace

import pytest

from offramp.models.families.llama import Llama
from offramp.study.arms import BRIDGES, GATES, PAPER, exit_recipe
from offramp.study.jobs import expected_seconds
from offramp.study.plan import Source, plan
from offramp.study.results import in_order, keys, slug
from offramp.study.scale import QUICK, Scale
from offramp.study.work.perform import KINDS
from offramp.training.gate_sizes import TOLERANCE, gate_parameters
from offramp.zoo.twins import TWINS

BOTH = [Source("tiny-transformer", "a", True, 4.484), Source("tiny-mamba2", "b", False, 4.641)]


@pytest.mark.parametrize(("scale", "minutes"), [(QUICK, 5), (Scale(), 60)])
def test_both_twins_in_the_time_promised_on_four_cores(scale: Scale, minutes: float) -> None:
    assert expected_seconds(plan(BOTH, "data", scale), 4) < 60 * minutes


def test_every_job_can_be_done_and_has_a_file_of_its_own() -> None:
    todo = plan(BOTH, "data", Scale())
    assert {job.kind for job in todo} == set(KINDS)
    assert len({slug(job.name) for job in todo}) == len(todo) == len(in_order(todo))
    assert all(job.seconds > 0 for job in todo)
    assert [job.name for job in todo if job.alone] == [f"{source.name}/clock" for source in BOTH]


def test_results_belong_to_a_model_its_data_and_the_settings() -> None:
    before = keys(plan(BOTH, "data", QUICK))
    assert not set(before.values()) & set(keys(plan(BOTH, "other", QUICK)).values())
    other = [BOTH[0], replace(BOTH[1], fingerprint="c")]
    changed = {name for name, key in keys(plan(other, "data", QUICK)).items() if before[name] != key}
    assert changed == {name for name in before if name.startswith("tiny-mamba2/")}
    half = [replace(BOTH[0], dtype="bf16"), BOTH[1]]
    changed = {name for name, key in keys(plan(half, "data", QUICK)).items() if before[name] != key}
    assert changed == {name for name in before if name.startswith("tiny-transformer/")}
    steps = keys(plan(BOTH, "data", replace(QUICK, paper_steps=41)))
    touched = {name for name, key in steps.items() if before[name] != key}
    assert touched and all("/paper/" in name for name in touched)


def test_a_study_of_fewer_seeds_is_a_part_of_one_of_more() -> None:
    few, many = (keys(plan(BOTH, "data", replace(QUICK, seeds=seeds))) for seeds in (1, 2))
    assert few.items() <= many.items()


def test_gates_of_a_size_have_equal_parameters() -> None:
    config = Llama().config_from(TWINS["tiny-transformer"])
    sizes: dict[str, list[int]] = {}
    for arm in GATES:
        exits = exit_recipe(arm, config).exits
        count = gate_parameters(exits.gate, exits.hidden_size, exits.bottleneck)
        sizes.setdefault(arm.partition("-")[2], []).append(count)
    [linear] = sizes.pop("")
    assert [len(counts) for counts in sizes.values()] == [3, 3, 3]
    assert all(max(counts) / min(counts) <= 1 + TOLERANCE + 1e-9 for counts in sizes.values())
    assert linear < min(sizes["small"]) < min(sizes["medium"]) < min(sizes["large"])


@pytest.mark.parametrize("arm", [*BRIDGES, *PAPER])
def test_other_arms_are_recipes(arm: str) -> None:
    recipe = exit_recipe(arm, Llama().config_from(TWINS["tiny-transformer"]))
    assert recipe.changed({"steps": 3, "seed": 1}).training.steps == 3
