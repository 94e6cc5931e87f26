"""Exits of a tiny model, and a hub that is a folder."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
from fake_hub import FakeHub

from offramp.exits.base import ExitConfig
from offramp.exits.exit_set import build_exits
from offramp.exits.info import ExitsInfo
from offramp.exits.store import save_exits
from offramp.models.fingerprint import fingerprint
from tests.training.tiny import WIDTH, tiny_model


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tmp_path / "hub", tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **_: fake)
    return fake


@pytest.fixture
def exits_folder(tmp_path: Path) -> Path:
    """Exits for `tiny_model()`, as training leaves them."""
    config = ExitConfig("linear", "none", (2, 4), WIDTH, 1e-5, bottleneck=8)
    metrics = {"after2": {"agreement": 0.25, "auroc": None}, "after4": {"agreement": 0.5, "auroc": 0.75}}
    info = ExitsInfo(
        "llama",
        fingerprint(tiny_model()),
        "topk",
        label_k=3,
        propagation="defer",
        revision="/home/somebody/models/backbone",
        thresholds=(0.25, 0.625),
        metrics=metrics,
        data={"source": "/home/somebody/corpus", "training_tokens": 1234, "recipe": {"steps": 7}},
    )
    save_exits(build_exits(config), info, tmp_path / "exits")
    return tmp_path / "exits"
