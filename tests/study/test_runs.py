"""Fronts and differences: what the tables say, held against plain arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offramp.errors import DataError
from offramp.study.manifest import Manifest, read_manifest, write_manifest
from offramp.study.provenance import commit, provenance
from offramp.study.report.contents import report
from offramp.study.report.fronts import NOISE, differences
from offramp.study.report.page import page
from offramp.study.report.parts import Table, leaves
from offramp.study.report.runs import Arm, Front, Runs, apart_at, read_runs
from offramp.study.report.write import write_report
from offramp.study.results import Job, Result, keys, write_result

ITEMS = 30
SPEND = (0.9, 0.7, 0.5)


def front(
    lift: float, seeds: int = 3, noise: float = 0.05, spend: Sequence[float] = SPEND, draw: int = 0
) -> Front:
    """Agreement falls as FLOPs do, by a line that `lift` moves up; items and seeds differ."""
    rng = np.random.default_rng(draw)
    base = rng.normal(0, noise, (seeds, ITEMS))
    points = []
    for spent in spend:
        per_seed = []
        for s in range(seeds):
            kept = 0.5 + 0.5 * spent + lift + base[s] + rng.normal(0, noise / 4, ITEMS)
            per_seed.append(
                measured({"agreement": [(float(k), 1.0) for k in kept], "flops": [(spent, 1.0)] * ITEMS})
            )
        points.append(tuple(per_seed))
    return Front(tuple(range(seeds)), tuple(1 - spent for spent in spend), tuple(points))


def measured(measures: Mapping[str, Any]) -> dict[str, Any]:
    return {"blocks": 12, "prompts": [f"code/{i}" for i in range(ITEMS)], "looping": [], "measures": measures}


def test_a_front_against_itself_lifted_is_the_lift() -> None:
    found = apart_at(front(0.2, noise=0.0), front(0.0, noise=0.0), "flops", "agreement")
    assert found is not None
    at, gap = found
    assert math.isclose(at, 0.7) and math.isclose(gap.value, 0.2) and math.isclose(gap.low, 0.2)


def test_fronts_of_other_points_meet_where_both_are() -> None:
    found = apart_at(
        front(0.1, noise=0.0, spend=(0.8, 0.6, 0.4)), front(0.0, noise=0.0), "flops", "agreement"
    )
    assert found is not None and math.isclose(found[0], 0.65) and math.isclose(found[1].value, 0.1)
    assert apart_at(front(0, spend=(0.3, 0.2)), front(0), "flops", "agreement") is None


def test_a_winner_is_named_outside_the_noise_only() -> None:
    fronts = {"a": front(0.3, draw=1), "b": front(0.001, draw=2), "c": front(0.0, draw=3)}
    table = differences("d", "t", fronts, "c")
    assert table is not None
    said = {row[0]: row[-1] for row in table.rows}
    assert said == {"a": "a higher", "b": NOISE}


def test_arms_with_other_seeds_are_compared_over_those_they_share() -> None:
    some = front(0.2, seeds=3, noise=0.0)
    assert apart_at(some.only([0, 2]), front(0.0, noise=0.0), "flops", "agreement") is not None
    assert apart_at(some.only([0]), front(0.0, noise=0.0), "flops", "agreement") is not None
    two = Front((1, 2), some.shares, tuple(point[:2] for point in some.points))
    found = apart_at(two, front(0.0, noise=0.0).only([0, 1]), "flops", "agreement")
    assert found is not None and math.isclose(found[1].value, 0.2)


def test_an_unfinished_study_has_a_report_that_says_so(tmp_path: Path) -> None:
    jobs = tuple(
        Job(f"m/free/gates/{arm}/project/gate/0", "free", {"seed": 0}) for arm in ("linear", "mamba-medium")
    )
    manifest = Manifest(jobs, "quick", {"processor": "one"})
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    points = [
        {"share": 0.3, "measured": {**point[0], "depths": {"3": 1, "12": 2}, "records": {}}}
        for point in front(0).points
    ]
    write_result(
        tmp_path, keys(jobs)[jobs[0].name], Result(jobs[0].name, "free", {}, {"points": points}, 1.0)
    )
    runs = read_runs(tmp_path, read_manifest(tmp_path))
    assert runs.missing == [jobs[1].name] and runs.models == ["m"]
    assert runs.front("m", Arm("gates", "linear", "project")) is not None
    made = report(runs)
    assert "1 jobs have no result" in page(made)
    [numbers] = [part for part in leaves(made) if isinstance(part, Table) and part.name == "m-gates-numbers"]
    assert numbers.rows[0][0] == "linear" and math.isclose(float(numbers.rows[0][1] or 0), 0.85, abs_tol=0.05)


def test_a_report_of_nothing_is_still_a_page() -> None:
    assert "0 of 0 jobs" in page(report(Runs(Manifest((), "quick", {}), {}, {})))


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text('{"format": 1, "jobs": [{"nam": 1}]}')
    with pytest.raises(DataError, match="is not a study's"):
        read_manifest(tmp_path)


HOSTILE = '"><script>alert(1)</script>\ud800'


def study_of(folder: Path, name: str, points: Any) -> Manifest:
    """A folder with one result."""
    manifest = Manifest((Job(name, "free", {"seed": 0}),), "quick", {HOSTILE: HOSTILE})
    write_manifest(folder, manifest)
    write_result(folder, keys(manifest.jobs)[name], Result(name, "free", {}, {"points": points}, 1.0))
    return read_manifest(folder)


def test_hostile_names_and_texts_stay_text_in_a_reports_own_folder(tmp_path: Path) -> None:
    token = {"text": HOSTILE, "depth": 3, "gate": None, "agreed": True}
    one = measured({"agreement": [(1.0, 1.0)] * ITEMS, "flops": [(0.5, 1.0)] * ITEMS})
    one |= {"depths": {"3": 1}, "records": {HOSTILE: [token]}}
    name = f"..{HOSTILE.replace('/', '')}/free/gates/mamba-medium/project/gate/0"
    manifest = study_of(tmp_path, name, [{"share": 0.5, "measured": one}])
    text = write_report(tmp_path, manifest).read_text()
    assert "<script" not in text and "&lt;script&gt;" in text and 'class="heat"' in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "results", "study.json"]


@pytest.mark.parametrize(
    "points", [None, [], [{}], [{"share": "x"}], [{"share": 1, "measured": {"prompts": 5, "measures": {}}}]]
)
def test_a_result_that_nobody_wrote_is_named_and_nothing_is_drawn(tmp_path: Path, points: Any) -> None:
    manifest = study_of(tmp_path, "m/free/gates/mamba-medium/project/gate/0", points)
    with pytest.raises(DataError, match="is not as a study writes it"):
        write_report(tmp_path, manifest)
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("jobs", [[("a", ("b",))], [("a", ()), ("a", ())], [("a", ("b",)), ("b", ("a",))]])
def test_a_plan_that_cannot_be_is_refused(tmp_path: Path, jobs: list[tuple[str, tuple[str, ...]]]) -> None:
    made = Manifest(tuple(Job(name, "free", {}, needs) for name, needs in jobs), "quick", {})
    write_manifest(tmp_path, made)
    with pytest.raises(DataError, match="two jobs have one name|need what is not planned"):
        write_report(tmp_path, read_manifest(tmp_path))


def test_provenance_names_no_machine_and_no_path() -> None:
    import getpass
    import platform

    said = provenance(3)
    text = " ".join(said.values())
    assert platform.node() not in text.split() and str(Path.home()) not in text
    assert (
        said["processes"] == "3"
        and said["number format"] == "f32"
        and said["torch"][0].isdigit()
        and said["processor"]
    )
    assert getpass.getuser() not in text.split()


def test_the_commit_is_read_from_the_repository(tmp_path: Path) -> None:
    assert commit(tmp_path) == ""
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text(f"# pack-refs\n{'b' * 40} refs/heads/main\n")
    assert commit(tmp_path) == "b" * 40
    (git / "refs" / "heads" / "main").write_text("a" * 40 + "\n")
    assert commit(tmp_path) == "a" * 40
    (git / "HEAD").write_text("c" * 40)
    assert commit(tmp_path) == "c" * 40
