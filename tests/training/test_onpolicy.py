"""On-policy: gates learn from what they really hear while the model writes, whatever the propagation leaves them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from offramp.data.documents import Documents
from offramp.engine.engine import Engine
from offramp.engine.reply import Generation
from offramp.engine.request import Request
from offramp.errors import DataError, OfframpError, UsageError
from offramp.exits.base import BridgeConfig, ExitConfig
from offramp.exits.exit_set import ExitSet
from offramp.exits.store import build_exits, load_exits
from offramp.models.base import Model
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.loop import Limits
from offramp.training.onpolicy import train as on_policy_train
from offramp.training.onpolicy.collect import collect
from offramp.training.onpolicy.config import OnPolicyConfig
from offramp.training.onpolicy.file import read_tapes, write_tapes
from offramp.training.onpolicy.listen import listen
from offramp.training.onpolicy.tape import Tape, Tapes
from offramp.training.onpolicy.taped import taped
from offramp.training.onpolicy.train import OnPolicyRun, train_on_policy
from offramp.training.recipe import Work, find_recipe
from tests.engine.random_models import AFTER, CONTEXT, VOCAB, Tiny, tiny

POLICY = OnPolicyConfig(text_steps=3, replies=4, prompt_tokens=5, reply_tokens=14, threshold=0.5, run_max=3)
CONFIG = ExitTrainConfig(steps=6, tokens_per_step=64, window=24, warmup_steps=2, propagation="project")


def documents(count: int = 12, length: int = 30) -> Documents:
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(1, VOCAB, (count, length), generator=generator).tolist()
    return Documents(ids[: count - 4], ids[count - 4 :], "random")


def tapes_of(made: Tiny, propagation: str, config: OnPolicyConfig = POLICY) -> Tapes:
    return collect(made.model, made.exits, documents(), config, propagation, (0.5,), 0, lambda _: None)


def replies(made: Tiny, propagation: str) -> list[Generation]:
    """What the same requests give without tapes, of the training part."""
    engine = Engine(made.model, made.exits, max_len=19, tier="fast")
    prompts = [tuple(ids[:5]) for ids in documents().training][: POLICY.replies]
    return [
        engine.generate(Request(p, propagation, thresholds=(0.5,), run_max=3, max_tokens=14)) for p in prompts
    ]


def depths_of(reply: Generation, prompt: int, blocks: int) -> list[int]:
    """The blocks that each token went through by itself, the last one's unknown: it is never read."""
    return [blocks] * (prompt - 1) + [event.depth for event in reply.events]


@torch.no_grad()
def heard_under_project(model: Model, tokens: Sequence[int], depths: Sequence[int]) -> list[Tensor]:
    """The residual stream `[T, D]` after 0..L blocks; from where a token left, its hidden state stays as it was."""
    x_1TD = model.embed(torch.tensor([list(tokens)]))
    states = [x_1TD[0]]
    for i, block in enumerate(model.blocks):
        gone = torch.tensor([depth <= i for depth in depths])[None, :, None]
        x_1TD = torch.where(gone, x_1TD, block(x_1TD))
        states.append(x_1TD[0])
    return states


@pytest.mark.parametrize(
    ("backbone", "gate"), [("llama", "mamba"), ("mamba2", "transformer"), ("bamba", "linear")]
)
@pytest.mark.parametrize("propagation", ["verify", "defer", "project"])
def test_what_is_on_the_tape_is_what_was_heard(backbone: str, gate: str, propagation: str) -> None:
    """Under verify and defer the text's own hidden states, rejected drafts forgotten; under project what a token
    that left leaves behind."""
    made = tiny(backbone, gate)
    tapes, left = tapes_of(made, propagation), 0
    for tape, reply in zip(tapes.training, replies(made, propagation), strict=True):
        assert isinstance(tape, Tape) and tape.tokens[5:] == reply.tokens
        depths = depths_of(reply, 5, 8)
        shown = depths if propagation == "project" else [8] * len(depths)
        states = heard_under_project(made.model, tape.tokens[:-1], shown)
        for e, heard in enumerate(tape.heard):
            count = len(heard.hidden_TD)
            assert torch.allclose(heard.hidden_TD, states[AFTER[e]][:count], atol=1e-4)
            asked = [i for i in range(5, len(depths)) if depths[i] >= AFTER[e]]
            assert heard.asked_N.tolist() == asked
        left += sum(depth < 8 for depth in depths)
    assert left > 3, "some tokens leave"


@pytest.mark.parametrize("gate", ["linear", "mamba"])
def test_a_gate_does_not_hear_tokens_that_left_before_it_under_skip(gate: str) -> None:
    made = tiny("mamba2", gate)
    for tape, reply in zip(tapes_of(made, "skip").training, replies(made, "skip"), strict=True):
        assert isinstance(tape, Tape)
        depths = depths_of(reply, 5, 8)
        for e, heard in enumerate(tape.heard):
            visited = [i for i in range(5, len(depths)) if depths[i] >= AFTER[e]]
            assert len(heard.hidden_TD) == 5 + len(visited)
            assert heard.asked_N.tolist() == list(range(5, 5 + len(visited)))


def test_taping_changes_nothing() -> None:
    made = tiny("llama", "mamba")
    request = Request((3, 4, 5), "defer", thresholds=(0.5,), max_tokens=20)
    plain = made.engine(tier="fast").generate(request)
    listened = Engine(made.model, taped(made.exits), max_len=CONTEXT, tier="fast").generate(request)
    assert listened.tokens == plain.tokens and listened.stats == plain.stats


@pytest.mark.parametrize("bridge", ["none", "lens", "block-mamba"])
@pytest.mark.parametrize("propagation", ["defer", "project"])
def test_labels_are_the_full_models_choices_on_the_text_as_it_was_written(
    bridge: str, propagation: str
) -> None:
    made = tiny("mamba2", "mamba", bridge)
    tapes = tapes_of(made, propagation)
    seen = listen(made.model, made.exits, tapes.training, CONFIG, distil=bridge != "none")
    assert seen.heard_EN is not None and seen.positions_E[0] > seen.positions_E[2] > 0
    for e, (item, said) in enumerate(zip(made.exits, seen.each(), strict=True)):
        labels, gates = [], []
        for tape in tapes.training:
            assert isinstance(tape, Tape)
            heard = tape.heard[e]  # a gate with memory hears every token, so its places are positions
            gate_RT, x_RTD = item(heard.hidden_TD[None])
            full = made.model(torch.tensor([tape.tokens]))[0].argmax(-1)
            for at in heard.asked_N.tolist():
                labels.append(made.model.logits(x_RTD[0, at]).argmax() == full[at])
                gates.append(gate_RT[0, at])
        assert said.label_N.tolist() == [bool(label) for label in labels]
        assert torch.allclose(said.gate_N, torch.stack(gates), atol=1e-5)
        assert (said.kl_N is None) == (bridge == "none")


def test_an_exit_that_was_asked_nothing_changes_nothing(tmp_path: Path) -> None:
    """Everything leaves at the first exit; only each run_max-th token reaches the others."""
    made = tiny("llama", "linear")
    always = replace(POLICY, threshold=0.0, run_max=15, reply_tokens=8)
    tapes = collect(made.model, made.exits, documents(), always, "project", (0.0,), 0, lambda _: None)
    seen = listen(made.model, made.exits, tapes.training, CONFIG)
    assert seen.positions_E.tolist()[1:] == [0, 0]
    _, info = train_on_policy(run_for(made, tmp_path, policy=always), made.exits)
    assert (
        info is not None and info.metrics["after4"]["accuracy"] is None and info.thresholds[1:] == (1.0, 1.0)
    )
    for value in made.exits.parameters():
        assert torch.isfinite(value).all()


def run_for(made: Tiny, out: Path, **other: Any) -> OnPolicyRun:
    limits = other.pop("limits", Limits())
    config, policy = other.pop("config", CONFIG), other.pop("policy", POLICY)
    work = Work(out, made.model, documents(), out / "exits", limits)
    said = {"training": config.steps, "policy": policy.replies}
    return OnPolicyRun(work, config, policy, said)


def fresh(made: Tiny, bridge: str = "none", seed: int = 0) -> ExitSet:
    own = BridgeConfig(rank=4) if bridge == "lens" else BridgeConfig()
    return build_exits(ExitConfig("mamba", bridge, AFTER, 32, 1e-5, 8, bridge_config=own), 8, seed)


@pytest.mark.parametrize(("stage", "bridge"), [("text", "none"), ("tapes", "none"), ("train", "lens")])
def test_a_run_stopped_at_any_stage_ends_as_if_it_had_not(
    stage: str, bridge: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny("mamba2", "mamba")
    whole = fresh(made, bridge)
    train_on_policy(run_for(made, tmp_path / "whole"), whole)
    parts, begun = tmp_path / "parts", fresh(made, bridge)
    if stage == "tapes":
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(on_policy_train, "collect", _interrupted)
            train_on_policy(run_for(made, parts), begun)
    else:
        if stage == "train":
            monkeypatch.setattr(on_policy_train, "listen", _stops_at_the_third())
            with pytest.raises(KeyboardInterrupt):
                train_on_policy(run_for(made, parts, limits=Limits(checkpoint_seconds=0)), begun)
            monkeypatch.setattr(on_policy_train, "listen", listen)
        else:
            outcome, info = train_on_policy(run_for(made, parts, limits=Limits(max_seconds=0)), begun)
            assert outcome.stopped and info is None
    resumed = fresh(made, bridge, seed=7) if stage != "text" else fresh(made, bridge)
    _, info = train_on_policy(run_for(made, parts), resumed)
    assert info is not None and [path.name for path in parts.iterdir()] == ["exits"]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def _interrupted(*_: Any) -> Tapes:
    raise KeyboardInterrupt


def _stops_at_the_third() -> Any:
    calls: list[int] = []

    def stops(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return listen(*arguments)

    return stops


def test_other_settings_are_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny("llama", "mamba")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(on_policy_train, "collect", _interrupted)
        train_on_policy(run_for(made, tmp_path), fresh(made))
    with pytest.raises(UsageError, match="holds a run with other settings or other data"):
        train_on_policy(run_for(made, tmp_path, config=replace(CONFIG, steps=5)), fresh(made))


def test_last_block_is_refused(tmp_path: Path) -> None:
    made = tiny("llama", "linear", "last_block")
    with pytest.raises(UsageError, match="use the bridge none, lens or block"):
        train_on_policy(run_for(made, tmp_path), made.exits)
    changes = {"bridge": "last_block", "after": (2, 4)}
    recipe = find_recipe("on-policy", made.model.config).changed(changes)
    with pytest.raises(UsageError, match="has no bridge last_block"):
        recipe.check(made.model.config)


def test_tapes_survive_the_disk(tmp_path: Path) -> None:
    made = tiny("llama", "mamba")
    tapes = tapes_of(made, "project")
    write_tapes(tapes, tmp_path / "tapes")
    again = read_tapes(tmp_path / "tapes", "random", 3)
    assert again.sha256() == tapes.sha256() and again.longest == tapes.longest == 19
    assert [tuple(tape) for tape in again.held_out] == [tuple(tape) for tape in tapes.held_out]
    assert len(again.held_out) == 1 and len(again.training) == 4
    (tmp_path / "tapes").write_bytes(b"no tapes")
    with pytest.raises(OfframpError, match="are damaged"):
        read_tapes(tmp_path / "tapes", "random", 3)


def test_what_was_heard_is_part_of_the_hash() -> None:
    tapes = tapes_of(tiny("llama", "mamba"), "project")
    first = tapes.training[0]
    assert isinstance(first, Tape)
    other = replace(first.heard[0], hidden_TD=first.heard[0].hidden_TD + 1)
    changed = Tape(first.tokens, (other, *first.heard[1:]))
    assert replace(tapes, training=[changed, *tapes.training[1:]]).sha256() != tapes.sha256()


def test_documents_that_cannot_be_written_on_from() -> None:
    made = tiny("llama")
    short = Documents([[3]], [[4]], "here")
    with pytest.raises(DataError, match="here has too few documents"):
        collect(made.model, made.exits, short, POLICY, "defer", (0.5,), 0, lambda _: None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"replies": 0}, "replies and prompt_tokens must be at least 1"),
        ({"reply_tokens": 1}, "no gate is asked for the first token"),
        ({"threshold": 1.5}, "threshold of 1.5"),
        ({"run_max": 16}, "run_max is 16"),
        ({"temperature": -1.0}, "temperature of -1"),
    ],
)
def test_impossible_configs(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        replace(POLICY, **change)


def test_the_recipe(tmp_path: Path) -> None:
    made = tiny("mamba2", "mamba")
    small = {
        "steps": 2,
        "text_steps": 2,
        "replies": 3,
        "reply_tokens": 6,
        "tokens_per_step": 64,
        "window": 16,
    }
    recipe = find_recipe("on-policy", made.model.config).changed(small | {"propagation": "skip"})
    remarks: list[str] = []
    done = recipe.train(Work(tmp_path, made.model, documents(), tmp_path / "exits", say=remarks.append))
    _, info = load_exits(tmp_path / "exits", made.model)
    assert info.metrics == done.metrics and info.propagation == "skip"
    assert info.data["recipe"] == json.loads(json.dumps(recipe.as_json()))
    assert remarks[-1] == "writing under skip: 4 of 4 replies"
