"""Training exits on a frozen backbone."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from offramp.data.documents import Documents
from offramp.errors import DataError, ExitsError, UnknownName, UsageError
from offramp.exits.base import BridgeConfig, ExitConfig
from offramp.exits.store import ExitSet, build_exits, load_exits
from offramp.models.base import Model
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.exits import measure, train_exits
from offramp.training.exits_job import gate_loss, loss_weights
from offramp.training.loop import Limits
from offramp.training.observe import observe
from offramp.training.pretrain import Phase, PretrainConfig, pretrain
from offramp.training.progress import Progress
from tests.training.tiny import WIDTH, counting_documents, tiny_model, write_corpus

CONFIG = ExitTrainConfig(steps=30, tokens_per_step=256, window=24, warmup_steps=3)
AFTER = (2, 4, 6)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A backbone that has learned something, so that its exits agree with it here and not there."""
    folder, model = tmp_path_factory.mktemp("backbone"), tiny_model()
    config = PretrainConfig(
        tokens=128 * 30,
        tokens_per_step=128,
        phases=(Phase(1.0, 0.5, 16),),
        warmup_steps=4,
        precision="f32",
    )
    pretrain(model, config, write_corpus(folder / "corpus"), folder / "run")
    return model.requires_grad_(False)


@pytest.fixture
def data() -> Documents:
    texts = counting_documents(60, 40, seed=3)
    return Documents(texts[:50], texts[50:], "counting")


def exits_for(
    gate: str = "linear",
    bridge: str = "none",
    after: Sequence[int] = AFTER,
    seed: int = 0,
    settings: BridgeConfig | None = None,
) -> ExitSet:
    shape = ExitConfig(
        gate, bridge, tuple(after), WIDTH, 1e-5, None, bridge_config=settings or BridgeConfig()
    )
    return build_exits(shape, 8, seed)


def weights(exits: ExitSet) -> list[torch.Tensor]:
    return [value for _, value in sorted(exits.state_dict().items())]


@pytest.mark.parametrize("gate", ["linear", "mamba"])
@pytest.mark.parametrize("bridge", ["none", "last_block"])
def test_gates_learn_and_the_backbone_stays(
    trained: Model, data: Documents, tmp_path: Path, gate: str, bridge: str
) -> None:
    before, seen = copy.deepcopy(trained.state_dict()), list[Progress]()
    outcome, info = train_exits(
        trained, exits_for(gate, bridge), data, CONFIG, tmp_path / "exits",
        limits=Limits(report_every=1), callback=seen.append, revision="tiny",
    )  # fmt: skip
    assert outcome.finished and info is not None
    assert seen[-1].loss < seen[0].loss and set(seen[0].losses) == {"exit2", "exit4", "exit6"}
    for name, value in before.items():
        assert torch.equal(value, trained.state_dict()[name]), name
    loaded, stored = load_exits(tmp_path / "exits", trained)
    assert stored == info and info.revision == "tiny" and loaded.after == AFTER
    assert set(info.metrics) == {"after2", "after4", "after6"} and len(info.thresholds) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exits"]


BRIDGES = {
    "lens": ("linear", BridgeConfig(rank=8)),
    "block": ("mlp", BridgeConfig(width=8)),
    "attention": ("mamba", BridgeConfig(width=8, mixer="attention")),
    "shared": ("mamba", BridgeConfig(mixer="gate")),
}


def bridged(kind: str, seed: int = 0, after: Sequence[int] = AFTER) -> ExitSet:
    gate, settings = BRIDGES[kind]
    return exits_for(gate, "lens" if kind == "lens" else "block", after, seed, settings)


@pytest.mark.parametrize("kind", BRIDGES)
def test_bridges_learn_the_full_model(data: Documents, tmp_path: Path, kind: str) -> None:
    """On a random backbone, whose exits are far from its last block."""
    config, seen = replace(CONFIG, rate=1e-2), list[Progress]()
    _, info = train_exits(
        tiny_model(seed=1), bridged(kind, after=(4,)), data, config, tmp_path / "exits",
        limits=Limits(report_every=1), callback=seen.append,
    )  # fmt: skip
    assert info is not None and set(seen[0].losses) == {"exit4", "kl4"}
    found = info.metrics["after4"]
    assert (
        found["kl"] < 0.7 * found["kl_without_bridge"] == pytest.approx(0.7 * seen[0].losses["kl4"], rel=0.1)
    )
    assert found["agreement"] > found["agreement_without_bridge"] + 0.05


def test_nothing_is_trained_for_a_folder_that_cannot_be_written(
    trained: Model, data: Documents, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("precious")
    seen = list[Progress]()
    with pytest.raises(ExitsError, match="is not an exits folder .it holds notes.txt.; name a new one"):
        train_exits(
            trained, exits_for(), data, CONFIG, tmp_path, limits=Limits(report_every=1), callback=seen.append
        )
    assert not seen and [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_nothing_is_trained_for_a_revision_that_cannot_be_stored(
    trained: Model, data: Documents, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="revision must be of at most 256 characters"):
        train_exits(trained, exits_for(), data, CONFIG, tmp_path / "exits", revision="x" * 257)
    assert list(tmp_path.iterdir()) == []


def test_every_exit_stores_its_own_weights(trained: Model, data: Documents, tmp_path: Path) -> None:
    """The published code stored the first exit's weights for all of them (paper.md, A4)."""
    exits = exits_for()
    train_exits(trained, exits, data, CONFIG, tmp_path / "exits")
    loaded, _ = load_exits(tmp_path / "exits", trained)
    stored = [item.gate.out.weight for item in loaded]
    for ours, theirs in zip(exits, stored, strict=True):
        assert torch.equal(ours.gate.out.weight, theirs)
    assert not torch.equal(stored[0], stored[1]) and not torch.equal(stored[1], stored[2])


@pytest.mark.parametrize(
    "make", [lambda seed: exits_for("mamba", seed=seed), lambda seed: bridged("shared", seed)]
)
def test_interrupted_and_resumed_equals_uninterrupted(
    trained: Model, data: Documents, tmp_path: Path, make: Callable[[int], ExitSet]
) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.step == 10:
            os.kill(os.getpid(), signal.SIGINT)

    whole, parts = make(0), tmp_path / "parts"
    train_exits(trained, whole, data, CONFIG, tmp_path / "whole")
    limits = Limits(report_every=1)
    outcome, info = train_exits(trained, make(0), data, CONFIG, parts, limits=limits, callback=interrupt)
    assert outcome.stopped == "interrupted" and info is None and not parts.exists()
    resumed = make(5)
    assert train_exits(trained, resumed, data, CONFIG, parts)[0].finished
    for ours, theirs in zip(weights(whole), weights(resumed), strict=True):
        assert torch.equal(ours, theirs)


def test_a_run_is_not_resumed_with_other_data(trained: Model, data: Documents, tmp_path: Path) -> None:
    """As many tokens in as many batches, but others."""
    stop, other = Limits(max_seconds=0), Documents(data.training[::-1], data.held_out, "elsewhere")
    train_exits(trained, exits_for(), data, CONFIG, tmp_path / "exits", limits=stop)
    with pytest.raises(UsageError, match="data was 'counting', now 'elsewhere'; data_sha256 was"):
        train_exits(trained, exits_for(), other, CONFIG, tmp_path / "exits")


def test_exits_trained_together_or_alone_are_the_same(
    trained: Model, data: Documents, tmp_path: Path
) -> None:
    """Disjoint exits do not see each other: only gradient clipping could couple them, so it is off here."""
    config = replace(CONFIG, clip=1e9)
    together = exits_for()
    alone = copy.deepcopy(together).select([4])
    train_exits(trained, together, data, config, tmp_path / "together")
    train_exits(trained, alone, data, config, tmp_path / "alone")
    for ours, theirs in zip(weights(together.select([4])), weights(alone), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_padding_is_never_observed(trained: Model) -> None:
    rows = [list(range(1, 9)), list(range(3, 6))]
    exits = exits_for("mamba")
    both = observe(trained, exits, rows, CONFIG)
    single = [observe(trained, exits, [row], CONFIG) for row in rows]
    for name in ("gates_EN", "labels_EN", "agreed_EN"):
        alone = torch.cat([getattr(part, name) for part in single], dim=1)
        assert torch.allclose(getattr(both, name).float(), alone.float(), atol=1e-5)


def test_labels_are_about_the_bridges_token(trained: Model) -> None:
    """Through the last block for `last_block` and for `after_last_block`, and nowhere else."""
    rows = counting_documents(6, 20, seed=8)
    plain = observe(trained, exits_for(bridge="none"), rows, CONFIG).labels_EN
    bridged = observe(trained, exits_for(bridge="last_block"), rows, CONFIG).labels_EN
    after = replace(CONFIG, label="after_last_block")
    assert torch.equal(observe(trained, exits_for(bridge="none"), rows, after).labels_EN, bridged)
    assert not torch.equal(plain, bridged)


def test_a_label_is_about_the_token_that_the_bridge_emits_now(trained: Model) -> None:
    """Before training that is the exit's own, afterwards what the bridge makes of it."""
    rows, exits = counting_documents(6, 20, seed=8), bridged("block")
    plain = observe(trained, exits.without_bridges(), rows, CONFIG)
    before = observe(trained, exits, rows, CONFIG, distil=True)
    assert torch.equal(before.labels_EN, plain.labels_EN)
    for item in exits:
        torch.nn.init.normal_(item.bridge.up.weight)
    after = observe(trained, exits, rows, CONFIG, distil=True)
    assert not torch.equal(after.labels_EN, plain.labels_EN)
    full = trained.logits(trained.hidden_states(torch.tensor(rows))[-1]).argmax(-1)
    for e, item in enumerate(exits):
        said = trained.logits(item.bridge(trained.hidden_states(torch.tensor(rows))[item.after])).argmax(-1)
        assert torch.equal(after.labels_EN[e], (said == full).flatten())


def test_what_a_gate_s_loss_may_move(trained: Model) -> None:
    """Its own weights, and of a bridge only the trunk that they share; and the divergence the other way round."""
    rows = counting_documents(6, 20, seed=8)
    for kind in ("block", "shared"):
        exits = bridged(kind)
        for value in exits.parameters():
            torch.nn.init.normal_(value, std=0.3)
        seen = observe(trained, exits, rows, CONFIG, distil=True)
        assert seen.kl_EN is not None
        of_gate, of_bridge = moved(exits, seen.gates_EN), moved(exits, seen.kl_EN)
        gates, bridges = (
            {name for name, _ in exits.named_parameters() if part in name} for part in ("gate", "bridge")
        )
        trunk = {name for name in gates if ".out." not in name or "mixer" in name}
        assert of_gate == gates and of_bridge == bridges | (trunk if kind == "shared" else set())


def moved(exits: ExitSet, values: torch.Tensor) -> set[str]:
    grads = torch.autograd.grad(values.sum(), list(exits.parameters()), retain_graph=True, allow_unused=True)
    names = (name for name, _ in exits.named_parameters())
    return {name for name, grad in zip(names, grads, strict=True) if grad is not None and grad.any()}


def test_a_label_about_another_bridge_s_token(trained: Model, data: Documents, tmp_path: Path) -> None:
    config = replace(CONFIG, label="after_last_block")
    with pytest.raises(UsageError, match="after_last_block is about .*, which the bridge lens does not run"):
        train_exits(trained, bridged("lens"), data, config, tmp_path / "exits")


def test_the_papers_weighting() -> None:
    assert loss_weights(4, "paper") == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert loss_weights(2, "sum") == [1.0, 1.0]


def test_balanced_loss_is_the_mean_of_the_classes() -> None:
    gate, label = torch.tensor([1.0, -1.0, 2.0, 0.5]), torch.tensor([True, False, False, False])
    positive, negative = gate_loss(gate[:1], label[:1], False), gate_loss(gate[1:], label[1:], False)
    assert gate_loss(gate, label, True) == pytest.approx(float((positive + negative) / 2))
    assert torch.isfinite(gate_loss(gate, torch.ones(4, dtype=torch.bool), True))


def test_measured_on_held_out_documents(trained: Model, data: Documents) -> None:
    metrics, thresholds = measure(trained, exits_for(), data.held_out, CONFIG)
    assert len(metrics) == len(thresholds) == 3
    for found in metrics:
        assert found["positive_rate"] == found["agreement"]  # the exact label is the agreement


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"label": "exact_"}, UnknownName, "Did you mean 'exact'"),
        ({"label_k": 0}, UsageError, "k is 0"),
        ({"weighting": "linear"}, UsageError, "one of sum, paper"),
        ({"steps": 0}, UsageError, "at least 1"),
        ({"precision": 1.5}, UsageError, "outside"),
        ({"rate": float("nan")}, UsageError, "learning rate of nan"),
        ({"rate": -1.0}, UsageError, "learning rate of -1"),
        ({"rate": float("inf")}, UsageError, "learning rate of inf"),
        ({"weight_decay": -0.1}, UsageError, "weight decay of -0.1"),
        ({"clip": 0.0}, UsageError, "norm of 0"),
        ({"clip": float("nan")}, UsageError, "norm of nan"),
        ({"warmup_steps": -1}, UsageError, "-1 warmup steps"),
        ({"window": 1}, UsageError, "a length of 1 leaves no token to predict"),
        ({"seed": -1}, UsageError, "seed of -1"),
    ],
)
def test_impossible_configs(change: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        replace(CONFIG, **change)  # type: ignore[arg-type]


def test_windows_and_data_that_do_not_fit(trained: Model, data: Documents, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exceeds the model's 64 tokens"):
        train_exits(trained, exits_for(), data, replace(CONFIG, window=65), tmp_path / "exits")
    foreign = replace(data, held_out=[*data.held_out, [1, 32]])
    with pytest.raises(DataError, match="makes id 32 of counting, but the model knows 32 ids"):
        train_exits(trained, exits_for(), foreign, CONFIG, tmp_path / "exits")
    with pytest.raises(DataError, match="too short"):
        train_exits(trained, exits_for(), Documents([[1]], [[1]], "here"), CONFIG, tmp_path / "exits")
