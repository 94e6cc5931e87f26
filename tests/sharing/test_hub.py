"""Exits go to a hub and come back by id; what is no exits, too large or out of reach is refused with a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fake_hub import FakeHub

from offramp.engine.load import find_exits
from offramp.errors import ExitsError, OfframpError
from offramp.exits.store import load_exits, read_exits, save_exits
from offramp.sharing import hub as ours
from offramp.sharing.hub import fetch_exits, is_hub_id, push_exits
from tests.training.tiny import tiny_model

FILES = ["README.md", "exits.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("owner/name", True),
        ("owner/name@main", True),
        ("owner/name@refs/pr/1", True),
        ("owner/na.me-2@0123abc", True),
        ("name", False),
        ("a/b/c", False),
        ("../name", False),
        ("./name", False),
        ("owner/../name", False),
        ("owner/na--me", False),
        ("owner/name@", False),
        ("owner/name@../../x", False),
        ("/owner/name", False),
        ("owner/name@main\n", False),
    ],
)
def test_what_looks_like_a_hub_id(text: str, expected: bool) -> None:
    assert is_hub_id(text) == expected


def test_there_and_back(hub: FakeHub, exits_folder: Path, tmp_path: Path) -> None:
    """The same exits; README.md beside them does not disturb; names in place of local paths."""
    assert push_exits(exits_folder, "me/exits", "---\nlicense: mit\n---\n") == "https://hub/me/exits"
    (hub.folder("me/exits") / "train.py").write_text("print('never fetched')")
    found = find_exits(tmp_path, "me/exits")
    assert found is not None and sorted(path.name for path in found.iterdir()) == FILES
    exits, info = load_exits(found, tiny_model())
    before, _ = read_exits(exits_folder)
    assert all(exits.state_dict()[name].equal(value) for name, value in before.state_dict().items())
    assert info.revision == "backbone" and info.data["source"] == "corpus"
    assert "somebody" not in (found / "exits.json").read_text()
    assert "somebody" in (exits_folder / "exits.json").read_text(), "the local folder stays as it is"


def test_a_revision(hub: FakeHub, exits_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(exits_folder, hub.folder("me/exits", "v1"))
    assert find_exits(tmp_path, "me/exits@v1") == hub.cache / "me/exits/commit-of-v1"
    with pytest.raises(ExitsError, match="no such repository or revision"):
        find_exits(tmp_path, "me/exits@v2")


def test_local_folders_win(
    hub: FakeHub, exits_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one without exits: it is a mistake, and no reason to look elsewhere."""
    push_exits(exits_folder, "me/exits", "")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(exits_folder, tmp_path / "me" / "exits")
    assert find_exits(tmp_path / "model", "me/exits") == Path("me/exits")
    (tmp_path / "me" / "exits" / "exits.json").unlink()
    with pytest.raises(ExitsError, match="owner/name"):
        find_exits(tmp_path / "model", "me/exits")


def test_offline(hub: FakeHub, exits_folder: Path) -> None:
    """What was fetched before is there; the rest is said in one line."""
    push_exits(exits_folder, "me/exits", "")
    fetched = fetch_exits("me/exits")
    hub.offline = True
    assert fetch_exits("me/exits") == fetched
    with pytest.raises(
        ExitsError, match=r"outgoing traffic has been disabled\. Exits that were fetched"
    ) as told:
        fetch_exits("me/others")
    assert "\n" not in str(told.value)
    with pytest.raises(OfframpError, match="not pushed"):
        push_exits(exits_folder, "me/exits", "")


def test_sizes_are_looked_at_before_anything_is_fetched(hub: FakeHub, exits_folder: Path) -> None:
    push_exits(exits_folder, "me/exits", "")
    hub.claimed["model.safetensors"] = 5 << 30
    with pytest.raises(ExitsError, match=r"model.safetensors has 5,368,709,120 bytes"):
        fetch_exits("me/exits")
    assert not hub.cache.exists()


def test_cached_files_have_limits_too(
    hub: FakeHub, exits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_exits(exits_folder, "me/exits", "")
    fetch_exits("me/exits")
    hub.offline = True
    monkeypatch.setitem(ours.LIMITS, "exits.json", 100)
    with pytest.raises(ExitsError, match=r"exits.json has .* at most 100"):
        fetch_exits("me/exits")


def test_a_repository_without_exits(hub: FakeHub) -> None:
    hub.folder("me/model").mkdir(parents=True)
    (hub.folder("me/model") / "model.safetensors").write_bytes(b"")
    with pytest.raises(ExitsError, match=r"holds no exits: exits\.json is missing"):
        fetch_exits("me/model")


@pytest.mark.parametrize("files", [["model.safetensors"], ["config.json", "exits.json"], ["weights.bin"]])
def test_other_repositories_are_not_overwritten(hub: FakeHub, exits_folder: Path, files: list[str]) -> None:
    hub.folder("me/model").mkdir(parents=True)
    for name in files:
        (hub.folder("me/model") / name).write_text("precious")
    with pytest.raises(OfframpError, match="something other than exits"):
        push_exits(exits_folder, "me/model", "")
    assert not hub.commits


def test_pushing_again(hub: FakeHub, exits_folder: Path) -> None:
    for card in ("one", "two"):
        push_exits(exits_folder, "me/exits", card)
    assert (hub.folder("me/exits") / "README.md").read_text() == "two"


def test_private_means_private(hub: FakeHub, exits_folder: Path) -> None:
    push_exits(exits_folder, "me/secret", "", private=True)
    assert hub.private == {"me/secret"}
    push_exits(exits_folder, "me/open", "")
    with pytest.raises(OfframpError, match="is public"):
        push_exits(exits_folder, "me/open", "", private=True)
    assert hub.commits == ["me/secret", "me/open"]


def test_a_card_beside_the_exits_stays(exits_folder: Path) -> None:
    """Training again into the folder replaces the exits and keeps what people wrote; other files are refused."""
    exits, info = read_exits(exits_folder)
    (exits_folder / "README.md").write_text("mine")
    save_exits(exits, info, exits_folder)
    assert (exits_folder / "README.md").read_text() == "mine"
    assert json.loads((exits_folder / "exits.json").read_text())["info"]["label_k"] == 3
    (exits_folder / "notes.txt").write_text("mine too")
    with pytest.raises(ExitsError, match=r"notes\.txt"):
        save_exits(exits, info, exits_folder)


def test_what_is_published_is_json_and_names_no_folder(hub: FakeHub, exits_folder: Path) -> None:
    file = exits_folder / "exits.json"
    raw = json.loads(file.read_text())
    raw["info"]["data"] = {"source": "clinic/notes.jsonl"}
    file.write_text(json.dumps(raw))
    push_exits(exits_folder, "me/exits", "half a pair: \ud800")
    assert "clinic" not in (hub.folder("me/exits") / "exits.json").read_text()
    raw["info"]["data"] = {"seconds": float("nan")}
    file.write_text(json.dumps(raw))
    with pytest.raises(ExitsError, match="cannot be written as JSON"):
        push_exits(exits_folder, "me/exits", "")
