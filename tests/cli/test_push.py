"""`offramp push` and `--exits owner/name`, without a network."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from offramp.cli import sharing
from offramp.sharing import hub


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, bool]]:
    """(name, card, private) of everything that would have been pushed."""
    calls: list[tuple[str, str, bool]] = []

    def push(folder: Path, name: str, card: str, private: bool) -> str:
        calls.append((name, card, private))
        return f"https://hub/{name}"

    monkeypatch.setattr(sharing, "push_exits", push)
    return calls


def test_push(run: Any, checkpoint: Path, pushed: list[tuple[str, str, bool]]) -> None:
    exits = checkpoint / "exits" / "linear"
    result = run("push", exits, "me/exits", "--license", "mit", "--private", "--base-model", "them/model")
    assert (result.code, result.out) == (0, "https://hub/me/exits\n")
    assert result.err == "offramp generate them/model --exits me/exits\n"
    [(name, card, private)] = pushed
    assert name == "me/exits" and private and "base_model: them/model" in card


def test_dry_run_shows_the_card(run: Any, checkpoint: Path, pushed: list[tuple[str, str, bool]]) -> None:
    result = run("push", checkpoint / "exits" / "linear", "me/exits", "--license", "mit", "--dry-run")
    assert result.code == 0 and result.out.startswith("---\nlibrary_name: offramp\nlicense: mit\n")
    assert not pushed


def test_a_card_of_ones_own(
    run: Any, checkpoint: Path, tmp_path: Path, pushed: list[tuple[str, str, bool]]
) -> None:
    card, exits = tmp_path / "CARD.md", checkpoint / "exits" / "linear"
    card.write_text("---\nlicense: mit\n---\nMine.\n")
    assert run("push", exits, "me/exits", "--card", card).code == 0
    assert pushed[0][1] == card.read_text()
    assert run("push", exits, "me/exits", "--card", card, "--license", "mit").code == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["me/exits"], "--license"),
        (["exits", "--license", "mit"], "owner/name"),
        (["me/exits", "--license", "My Licence"], "licence"),
    ],
)
def test_mistakes(
    run: Any, checkpoint: Path, options: list[str], said: str, pushed: list[tuple[str, str, bool]]
) -> None:
    result = run("push", checkpoint / "exits" / "linear", *options)
    assert result.code == 2 and said in result.err and not pushed


def test_a_folder_without_exits(run: Any, checkpoint: Path) -> None:
    result = run("push", checkpoint, "me/exits", "--license", "mit")
    assert result.code == 1 and "exits.json" in result.err


def test_generate_with_exits_of_the_hub(
    run: Any, checkpoint: Path, bare_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same text as with the folder; `bare_checkpoint` has the same weights."""
    fetched = tmp_path / "fetched"
    shutil.copytree(checkpoint / "exits" / "linear", fetched)
    monkeypatch.setattr(hub, "_snapshot", lambda *_: str(fetched))
    options = ("ab", "--policy", "always", "--max-tokens", "6", "--json")
    by_id = run("generate", bare_checkpoint, *options, "--exits", "me/exits@v1")
    by_name = run("generate", checkpoint, *options, "--exits", "linear")
    assert by_id.code == 0 and '"depth": 1' in by_id.out
    assert [line for line in by_id.out.splitlines() if "token" in line][:6] == [
        line for line in by_name.out.splitlines() if "token" in line
    ][:6]


def test_offline(run: Any, bare_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network here")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    result = run("generate", bare_checkpoint, "ab", "--exits", "me/exits")
    assert result.code == 1 and "no network here" in result.err and "need no connection" in result.err
