"""What a tracker hears of a run. tensorboard's files are read back with its own reader."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from offramp.errors import UsageError
from offramp.training import tracking
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.exits import train_exits
from offramp.training.loop import Limits
from offramp.training.progress import Progress
from offramp.training.tracking import tracked
from tests.training.tiny import tiny_documents, tiny_exits, tiny_model

CONFIG = ExitTrainConfig(steps=6, tokens_per_step=128, window=24, warmup_steps=2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # tensorboard's own
def test_tensorboard_holds_the_losses(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = list[Progress]()
    settings = {**asdict(CONFIG), "exits": {"after": (2, 4), "bottleneck": None}}
    with tracked("tensorboard", tmp_path / "runs", settings, seen.append) as report:
        train_exits(
            tiny_model(), tiny_exits(), tiny_documents(), CONFIG, tmp_path / "exits",
            limits=Limits(report_every=2), callback=report,
        )  # fmt: skip
    events = EventAccumulator(str(tmp_path / "runs" / "offramp")).Reload()
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    assert found == [(progress.step, pytest.approx(progress.loss)) for progress in seen]
    assert [progress.step for progress in seen] == [2, 4, 6]
    assert {"loss/exit2", "loss/exit4", "loss/exit6", "tokens_per_second"} <= set(events.Tags()["scalars"])


def test_unknown_and_missing_trackers_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(UsageError, match="Did you mean 'tensorboard'"),
        tracked("tensorbored", tmp_path, {}),
    ):
        pass
    monkeypatch.setattr(tracking, "get_available_trackers", list)
    with pytest.raises(UsageError, match="pip install trackio"), tracked("trackio", tmp_path, {}):
        pass
    assert list(tmp_path.iterdir()) == []


def test_settings_are_flat_numbers_and_text() -> None:
    nested = {"a": {"b": {"c": 1}, "d": (1, 2)}, "e": None, "f": True, "g": 0.5}
    assert tracking._flat(nested) == {"a.b.c": 1, "a.d": "(1, 2)", "e": "None", "f": True, "g": 0.5}
