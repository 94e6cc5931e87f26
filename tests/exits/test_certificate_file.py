"""Certificates on disk: written whole, read strictly, gone with the exits they speak of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from offramp.errors import ExitsError, UsageError
from offramp.exits.base import ExitConfig
from offramp.exits.certificate import Binding, Certificate, Chosen, Step
from offramp.exits.certificates import (
    CERTIFICATES,
    certificates_of,
    read_certificate,
    save_certificate,
)
from offramp.exits.digest import exits_digest
from offramp.exits.exit_set import ExitSet, build_exits
from offramp.exits.info import ExitsInfo
from offramp.exits.store import check_target, save_exits

BINDING = Binding("m" * 64, "e" * 64, "none", "float32", "defer", "gate", 8, Chosen(), ("\n",), 64, 32)
PATH = (
    Step((1.0, 1.0)),
    Step((0.9, 0.8), 0.01, 0.004, 3.5),
    Step((0.5, 0.5), 0.2, 0.9, 2.5),
    Step((0.0, 0.0)),
)
WHOLE = Certificate(
    BINDING, "agreement", 0.05, 0.95, 1, PATH, 300, "d" * 64, accepted=(0.5, 0.75), test_loss=0.25
)


def exits_in(folder: Path, seed: int = 0) -> ExitSet:
    exits = build_exits(ExitConfig("linear", "none", (1, 2), 16, 1e-5), 4, seed)
    save_exits(exits, ExitsInfo("llama", "0" * 64, "exact"), folder)
    return exits


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    exits_in(tmp_path / "set")
    path = save_certificate(WHOLE, tmp_path / "set")
    assert path.name.startswith("agreement-0.05-defer-") and read_certificate(path) == WHOLE
    assert certificates_of(tmp_path / "set") == [WHOLE]
    assert hash(WHOLE) == hash(read_certificate(path))


def test_others_lie_beside_and_the_same_is_replaced(tmp_path: Path) -> None:
    exits_in(tmp_path / "set")
    others = [
        replace(WHOLE, risk=0.02),
        replace(WHOLE, metric="f1"),
        replace(WHOLE, teacher_forced=True),
        replace(WHOLE, binding=replace(BINDING, max_tokens=65)),
        replace(WHOLE, binding=replace(BINDING, sampling=Chosen(temperature=0.5))),
    ]
    for one in (*others, WHOLE, replace(WHOLE, chosen=2)):
        save_certificate(one, tmp_path / "set")
    assert set(certificates_of(tmp_path / "set")) == {*others, replace(WHOLE, chosen=2)}


def test_a_second_look_is_refused_unless_it_replaces(tmp_path: Path) -> None:
    exits_in(tmp_path / "set")
    save_certificate(WHOLE, tmp_path / "set")
    second = replace(WHOLE, data="other", confidence=0.9, teacher_forced=True)
    with pytest.raises(ExitsError, match="voids the guarantee"):
        save_certificate(second, tmp_path / "set")
    save_certificate(second, tmp_path / "set", replace=True)
    assert certificates_of(tmp_path / "set") == [second]


@pytest.mark.parametrize(
    "second",
    [
        replace(WHOLE, data="other", binding=replace(BINDING, prompt_tokens=31)),
        replace(WHOLE, path=PATH[:3]),
    ],
    ids=["another longest prompt", "other steps"],
)
def test_neither_prompts_nor_steps_hide_a_second_look(tmp_path: Path, second: Certificate) -> None:
    exits_in(tmp_path / "set")
    save_certificate(WHOLE, tmp_path / "set")
    with pytest.raises(ExitsError, match="voids the guarantee"):
        save_certificate(second, tmp_path / "set")
    save_certificate(second, tmp_path / "set", replace=True)
    assert certificates_of(tmp_path / "set") == [second]


def test_there_must_be_exits(tmp_path: Path) -> None:
    with pytest.raises(ExitsError, match="no exits"):
        save_certificate(WHOLE, tmp_path)


def test_exits_that_are_trained_again_lose_their_certificates(tmp_path: Path) -> None:
    exits_in(tmp_path / "set")
    save_certificate(WHOLE, tmp_path / "set")
    (tmp_path / "set" / CERTIFICATES / ".x.json.1.new").write_text("")  # left by a crash
    (tmp_path / "set" / "README.md").write_text("card")
    assert check_target(tmp_path / "set") and certificates_of(tmp_path / "set")
    exits_in(tmp_path / "set", seed=1)
    assert not (tmp_path / "set" / CERTIFICATES).exists()
    assert (tmp_path / "set" / "README.md").read_text() == "card"


def test_nothing_of_anybody_elses_is_lost(tmp_path: Path) -> None:
    exits_in(tmp_path / "set")
    save_certificate(WHOLE, tmp_path / "set")
    (tmp_path / "set" / CERTIFICATES / "notes.txt").write_text("mine")
    with pytest.raises(ExitsError, match="not an exits folder"):
        exits_in(tmp_path / "set")


def raw(**changes: Any) -> dict[str, Any]:
    return json.loads(json.dumps(WHOLE.to_json())) | changes


BINDING_RAW = raw()["binding"]


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"format": None},
        {"risk": 0},
        {"risk": float("nan")},
        {"risk": "0.05"},
        {"confidence": 1},
        {"metric": "luck"},
        {"metric": ["agreement"]},
        {"chosen": 4},
        {"chosen": -1},
        {"chosen": True},
        {"chosen": 1.0},
        {"path": []},
        {"path": [1]},
        {"path": {}},
        {"path": [{"thresholds": [0.5, 0.5]}]},
        {"path": [{"thresholds": [1, 1]}, {"thresholds": [0.5]}]},
        {"path": [{"thresholds": [1, 1]}, {"thresholds": [2, 0.5]}]},
        {"path": [{"thresholds": [1, 1]}, {"thresholds": [0.1, 0.5], "loss": 2}]},
        {"path": [{"thresholds": [1.0]}] * 1025},
        {"documents": -1},
        {"documents": "many"},
        {"data": ""},
        {"data": "x" * 2000},
        {"accepted": [0.9, 0.1]},
        {"accepted": [0.9]},
        {"teacher_forced": 1},
        {"test_loss": 7},
        {"seed": 1 << 63},
        {"binding": None},
        {"binding": BINDING_RAW | {"sampling": None}},
        {"binding": BINDING_RAW | {"sampling": {"heat": 1}}},
        {"binding": BINDING_RAW | {"run_max": 0}},
        {"binding": BINDING_RAW | {"stop": ["a"] * 65}},
        {"binding": BINDING_RAW | {"stop": [1]}},
        {"binding": BINDING_RAW | {"model": 5}},
        {"binding": {}},
        {"surprise": 1},
    ],
)
def test_what_is_no_certificate_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(raw(**changes)))
    with pytest.raises(ExitsError, match=r"c\.json is damaged.*offramp calibrate"):
        read_certificate(path)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda x: st.lists(x, max_size=3),
)


@given(ANYTHING)
def test_any_field_is_read_as_it_is_or_refused_by_its_name(value: Any) -> None:
    for name in raw():
        given = raw(**{name: value})
        try:
            read = Certificate.from_json(given)
        except UsageError as refused:
            assert str(refused).startswith(name)
        else:
            assert json.loads(json.dumps(read.to_json())) == given and hash(read) is not None


def test_files_that_are_no_json_are_named(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(ExitsError, match=r"c\.json"):
        read_certificate(tmp_path / "c.json")


def test_the_digest_of_exits_knows_every_weight_place_and_setting() -> None:
    config = ExitConfig("mamba", "none", (1, 2), 16, 1e-5, bottleneck=8)
    exits = build_exits(config, 4)
    same = exits_digest(exits)
    assert same == exits_digest(build_exits(config, 4)) == exits_digest(exits.eval())
    others = {same, exits_digest(build_exits(config, 4, seed=1)), exits_digest(exits.select((1,)))}
    for change in ({"after": (1, 3)}, {"norm_eps": 1e-6}, {"gate": "transformer"}, {"bridge": "last_block"}):
        others.add(exits_digest(build_exits(replace(config, **change), 5)))
    assert len(others) == 7
    with torch.no_grad():
        next(exits.parameters()).view(-1)[0] += 1e-3
    assert exits_digest(exits) not in others
