"""What a pass costs: curves between the points that were measured, and a cache that is never an obstacle."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_models import tiny

from offramp.engine import timings as cache
from offramp.engine.timings import FREE, Curve, Timings, load_timings, measure, save_timings, timings_key

SHALLOW = Curve(((1, 0.5), (4, 2.0), (8, 2.0)))
TIMINGS = Timings(SHALLOW, Curve(((2, 1.25), (16, 3.0))), Curve(((1, 0.125),)))


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache file of this test; its folder is not there yet."""
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "timings.json"


# ---- curves


def test_straight_lines_between_points() -> None:
    assert [SHALLOW.seconds(n) for n in (1, 2, 2.5, 4, 6, 8)] == [0.5, 1.0, 1.25, 2.0, 2.0, 2.0]


def test_outside_the_points() -> None:
    assert [SHALLOW.seconds(n) for n in (0, 0.3, 100)] == [0, 0.5, 2.0]
    assert Curve(((2, 1.0), (4, 2.0))).seconds(1) == 1.0, "a pass costs what the smallest one measured costs"
    assert Curve(((1, 1.0), (3, 2.0))).seconds(7) == 4.0
    assert Curve(((1, 1.0), (3, 0.5))).seconds(1000) == 0.5, (
        "noise may fall, but nothing gets cheaper for ever"
    )
    assert [Curve(((4, 1.5),)).seconds(n) for n in (0, 1, 4, 9)] == [0, 1.5, 1.5, 1.5]


@given(
    st.lists(st.tuples(st.integers(1, 500), st.floats(0, 10)), min_size=1, unique_by=lambda point: point[0])
)
def test_a_curve_goes_through_its_points(points: list[tuple[int, float]]) -> None:
    curve = Curve(tuple(sorted(points)))
    assert all(curve.seconds(count) == pytest.approx(seconds) for count, seconds in points)
    assert all(curve.seconds(count / 2) >= 0 for count in range(0, 1200, 7))


@pytest.mark.parametrize(
    "points",
    [
        (),
        ((0, 1.0),),
        ((2, 1.0), (1, 2.0)),
        ((1, 1.0), (1, 2.0)),
        ((1, -0.1),),
        ((1, float("nan")),),
        ((1, float("inf")),),
    ],
)
def test_points_that_are_no_curve(points: tuple[tuple[int, float], ...]) -> None:
    with pytest.raises(AssertionError):
        Curve(points)


def test_measure_takes_the_median_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run is slow and so is one of three: neither is seen."""
    runs: Counter[int] = Counter()
    now = 7.0
    monkeypatch.setattr(cache, "perf_counter", lambda: now)

    def run(count: int) -> None:
        nonlocal now
        runs[count] += 1
        now += 100 if runs[count] in (1, 3) else runs[count] + count / 4

    assert measure(run, [1, 20], repeats=3, budget=1e9) == Curve(((1, 4.25), (20, 9.0)))
    assert runs == {1: 4, 20: 4}


def test_measure_keeps_to_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large counts of a slow model are not tried, and few runs are repeated; two counts are always measured."""
    runs: Counter[int] = Counter()
    now = 0.0
    monkeypatch.setattr(cache, "perf_counter", lambda: now)

    def run(count: int) -> None:
        nonlocal now
        runs[count] += 1
        now += count

    assert measure(run, [1, 2, 4, 8, 16], repeats=5, budget=6.0) == Curve(((1, 1.0), (2, 2.0), (4, 4.0)))
    assert runs == {1: 2, 2: 2, 4: 2}
    assert measure(run, [10, 20, 40], repeats=5, budget=1.0) == Curve(((10, 10.0), (20, 20.0)))


# ---- the cache


def test_what_was_saved_is_loaded(file: Path) -> None:
    assert load_timings("a") is None
    save_timings("a", TIMINGS)
    save_timings("b", Timings(SHALLOW, SHALLOW))
    assert load_timings("a") == TIMINGS
    assert load_timings("b") == Timings(SHALLOW, SHALLOW, FREE)
    assert load_timings("c") is None
    assert [path.name for path in file.parent.iterdir()] == ["timings.json"]


def test_the_newest_are_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_ENTRIES", 3)
    for key in "abcad":  # a is renewed
        save_timings(key, TIMINGS)
    assert list(json.loads(file.read_text())["entries"]) == ["c", "a", "d"]
    save_timings("d", TIMINGS)
    assert list(json.loads(file.read_text())["entries"]) == ["c", "a", "d"], "renewing drops none"


def test_a_full_cache_can_be_read(file: Path) -> None:
    """The reading limit is far from what the bound on entries lets grow: curves of a dozen points."""
    curve = Curve(tuple((2**i, 0.123456789012345678 * (i + 1)) for i in range(12)))
    entries = {f"{i:032x}": cache._curves(Timings(curve, curve, curve)) for i in range(cache.MOST_ENTRIES)}
    file.parent.mkdir()
    file.write_text(json.dumps({"form": cache.FORM, "entries": entries}))
    assert load_timings(f"{255:032x}") == Timings(curve, curve, curve)
    assert file.stat().st_size < cache.SMALL / 2


GOOD = {"shallow": [[1, 0.5]], "deep": [[1, 0.5]], "draft": [[1, 0.5]]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"form": 1}',
        '{"form": 1, "entries": []}',
        json.dumps({"form": 0, "entries": {"a": GOOD}}),
        json.dumps({"entries": {"a": GOOD}}),
        "[" * 100_000,
        " " * (cache.SMALL + 1),
    ],
)
def test_another_file_is_ignored_and_replaced(file: Path, text: str) -> None:
    file.parent.mkdir()
    file.write_text(text)
    assert load_timings("a") is None
    save_timings("a", TIMINGS)
    assert load_timings("a") == TIMINGS


@pytest.mark.parametrize(
    "entry",
    [
        None,
        7,
        [],
        "shallow",
        {},
        {"shallow": [[1, 0.5]], "deep": [[1, 0.5]]},
        GOOD | {"deeper": [[1, 0.5]]},
        *(
            GOOD | {"deep": points}
            for points in (
                None,
                3,
                [],
                "ab",
                [1, 2],
                [[1]],
                [[1, 2, 3]],
                [[1, None]],
                [["x", 1]],
                [[{}, 1]],
                [[0, 1]],
                [[2, 1], [1, 1]],
                [[1, -1]],
                [[1, float("nan")]],
                [[1, float("inf")]],
                [[float("inf"), 1]],
                [[1, 10**400]],
            )
        ),
    ],
)
def test_a_strange_entry_is_ignored_alone(file: Path, entry: object) -> None:
    file.parent.mkdir()
    file.write_text(json.dumps({"form": cache.FORM, "entries": {"a": entry, "b": GOOD}}))
    assert load_timings("a") is None
    assert load_timings("b") is not None
    save_timings("c", TIMINGS)
    assert list(json.loads(file.read_text())["entries"]) == ["b", "c"]


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path: Path, file: Path) -> None:
    file.mkdir(parents=True)  # the file's name is taken by a folder
    save_timings("a", TIMINGS)
    assert load_timings("a") is None
    file.rmdir()
    file.parent.rmdir()
    file.parent.write_text("")  # the folder's by a file
    save_timings("a", TIMINGS)
    assert load_timings("a") is None
    assert [path.name for path in tmp_path.iterdir()] == ["cache"], "nothing half written stays"


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, shared, own = (tmp_path / name for name in ("home", "shared", "own"))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("OFFRAMP_CACHE", "")
    for unset in ("", "relative/is/ignored"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert cache._file() == home / ".cache" / "offramp" / "timings.json"
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared))
    assert cache._file() == shared / "offramp" / "timings.json"
    monkeypatch.setenv("OFFRAMP_CACHE", str(own))
    assert cache._file() == own / "timings.json"


def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("OFFRAMP_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    save_timings("a", TIMINGS)
    assert load_timings("a") is None


# ---- what timings depend on


def test_the_key_is_of_what_timings_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    case, other = tiny("llama", "linear", "none"), tiny("mamba2", "linear", "none")
    key = timings_key(case.model, case.exits, bucket=16, slots=4)
    again = tiny("llama", "linear", "none")
    assert timings_key(again.model, again.exits, bucket=16, slots=4) == key, "weights may be others"
    others = [
        timings_key(other.model, other.exits, bucket=16, slots=4),
        timings_key(case.model, (), bucket=16, slots=4),
        timings_key(case.model, list(case.exits)[:1], bucket=16, slots=4),
        timings_key(case.model, tiny("llama", "mamba", "none").exits, bucket=16, slots=4),
        timings_key(case.model, case.exits, bucket=0, slots=4),
        timings_key(case.model, case.exits, bucket=16, slots=5),
        timings_key(case.model, case.exits, bucket=16, slots=4, runner="kernels for avx2, 1 threads"),
        timings_key(again.model.to(torch.bfloat16), case.exits, bucket=16, slots=4),
    ]
    for name, value in (("_processor", "abacus"), ("_cores", 77), ("version", "0")):
        with monkeypatch.context() as patch:
            patch.setattr(cache, name, lambda *_, value=value: value)
            others.append(timings_key(case.model, case.exits, bucket=16, slots=4))
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 99)
        others.append(timings_key(case.model, case.exits, bucket=16, slots=4))
    assert len({key, *others}) == 1 + len(others)
    assert len(key) == 32 and set(key) <= set("0123456789abcdef")


def test_the_key_outlives_the_process() -> None:
    """Settings may be functions, which show their addresses."""
    case = tiny("llama", "linear", "none")
    keys, markers = set(), [object(), object()]
    for case.model.marker in markers:
        keys.add(timings_key(case.model, case.exits, bucket=16, slots=4))
    assert len(keys) == 1


def test_a_machine_has_a_name_of_its_kind() -> None:
    assert cache._processor().strip()
