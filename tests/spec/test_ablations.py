"""The checks have teeth: with one wrong reading, the named check fails; with the right one, all hold."""

from dataclasses import dataclass, field

import pytest

from . import ablations as wrong
from .propagation import PROPAGATIONS
from .trial import Setting, World, outcome, run_trial

VERIFY, DEFER = ("verify",) * 2, ("defer",) * 2
SHORT = {"max_tokens": 8}
ENDLESS = {"max_tokens": 60, "context": 24, "run_max": 15, "stop": None, "eos": frozenset()}


@dataclass(frozen=True)
class Ablation:
    breaks: str  # how the name of the failing check begins
    seed: int
    world: World
    setting: Setting = field(default_factory=Setting)
    right: World = field(default_factory=World)


ABLATIONS = {
    "continues from base": Ablation(
        "verify == plain",
        1,
        World(mixers={"mamba2": wrong.ContinuesFromBase}),
        Setting(VERIFY, backbone="mamba2"),
    ),
    "continues from stale work": Ablation(
        "verify == plain",
        1,
        World(mixers={"mamba2": wrong.ContinuesFromStaleWork}),
        Setting(VERIFY, backbone="mamba2"),
    ),
    "sees the former owner": Ablation(
        "skip: slots",
        1,
        World(mixers={"mamba2": wrong.SeesFormerOwner}),
        Setting(("skip",) * 4, backbone="mamba2"),
    ),
    "masks by multiplying": Ablation(
        "verify == plain",
        0,
        World(mixers={"attention": wrong.MasksByMultiplying}),
        Setting(VERIFY, backbone="attention", request=ENDLESS),
    ),
    "noise by call": Ablation(
        "verify == plain, sampled", 6, World(noise=wrong.noise_by_call()), Setting(VERIFY, request=SHORT)
    ),
    "cuts prompts freely": Ablation(
        "verify == plain", 1, World(row=wrong.CutsPromptsFreely), Setting(VERIFY, backbone="mamba2")
    ),
    "leaves by load": Ablation(
        "defer: schedule", 0, World(row=wrong.LeavesByLoad), Setting(DEFER, request=SHORT)
    ),
    "drafts beyond the end": Ablation(
        "integrity: index",
        1,
        World(row=wrong.DraftsBeyondTheEnd),
        Setting(VERIFY, backbone="attention", request=ENDLESS),
    ),
    "keeps after the end": Ablation(
        "rollback", 6, World(row=wrong.KeepsAfterTheEnd), Setting(VERIFY, request=SHORT)
    ),
    "leaves its tail": Ablation(
        "integrity: tail",
        4,
        World(row=wrong.LeavesItsTail),
        Setting(VERIFY, policy="confidence", bridge="last_block"),
    ),
    "keeps memory": Ablation(
        "policy rollback", 2, World(row=wrong.KeepsMemory), Setting(VERIFY, policy="average", request=SHORT)
    ),
    "counts the ring": Ablation(
        "defer: alone",
        5,
        World(row=wrong.CountsTheRing, drains=wrong.drains_early),
        Setting(DEFER, bridge="none"),
        right=World(drains=wrong.drains_early),
    ),
    "drains a borrowed last block": Ablation(
        "defer: alone",
        5,
        World(drains=wrong.drains_early),
        Setting(DEFER, bridge="last_block"),
        right=World(drains=wrong.drains_all_but_the_last),
    ),
}


def broken(seed: int, setting: Setting, world: World) -> list[str]:
    return [name for name, ok in run_trial(seed, setting, world).checks if not ok]


@pytest.mark.parametrize("name", ABLATIONS)
def test_a_wrong_reading_is_seen(name: str) -> None:
    ablation = ABLATIONS[name]
    seen = broken(ablation.seed, ablation.setting, ablation.world)
    assert [check for check in seen if check.startswith(ablation.breaks)], seen
    assert broken(ablation.seed, ablation.setting, ablation.right) == []


def test_deeper_bridges_hear_projected_tokens() -> None:
    """Not a matter of consistency but of definition: a bridge that does not hear them says other things."""
    setting = Setting(("project",) * 2, bridge="block", request=ENDLESS)
    deaf = World(propagations=PROPAGATIONS | {"project": wrong.ProjectsPastBridges()})
    outcomes = [[outcome(row) for row in run_trial(0, setting, world).rows] for world in (World(), deaf)]
    assert outcomes[0] != outcomes[1]


@pytest.mark.parametrize("bridge", ["none", "lens", "block"])
def test_draining_early_is_harmless_unless_the_last_block_is_borrowed(bridge: str) -> None:
    """The engine never does it, but other bridges do not depend on when rings are emptied."""
    assert broken(0, Setting(DEFER, bridge=bridge), World(drains=wrong.drains_early)) == []
