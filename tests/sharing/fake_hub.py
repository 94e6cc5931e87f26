"""A hub in a folder: what huggingface_hub would be asked, checked against its own signatures, and no network."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
from huggingface_hub import HfApi
from huggingface_hub.errors import DryRunError, LocalEntryNotFoundError

DOWNLOAD = inspect.signature(huggingface_hub.snapshot_download)


@dataclass
class FakeHub:
    """Repositories are folders, their revisions too: `root/owner/name/revision`. offline: nothing can be reached."""

    root: Path
    cache: Path
    offline: bool = False
    private: set[str] = field(default_factory=set)
    claimed: dict[str, int] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)

    def folder(self, name: str, revision: str | None = None) -> Path:
        return self.root / name / (revision or "main").removeprefix("commit-of-")

    def _reach(self) -> None:
        if self.offline:
            raise LocalEntryNotFoundError("outgoing traffic has been disabled\nand more")

    def snapshot_download(self, *args: Any, **kwargs: Any) -> Any:
        asked = DOWNLOAD.bind(*args, **kwargs).arguments
        name, revision, dry_run = asked["repo_id"], asked["revision"], asked.get("dry_run", False)
        if self.offline:
            if dry_run:
                raise DryRunError("cannot be accessed")
            found = self.cache / name / f"commit-of-{revision or 'main'}"
            if not found.is_dir():
                self._reach()
            return str(found)
        files = [f for f in self.folder(name, revision).glob("*") if f.name in asked["allow_patterns"]]
        commit = f"commit-of-{revision or 'main'}".replace("commit-of-commit-of-", "commit-of-")
        if dry_run:
            if not self.folder(name, revision).is_dir():
                raise ValueError("404 no such repository or revision")
            sizes = {f.name: self.claimed.get(f.name, f.stat().st_size) for f in files}
            return [SimpleNamespace(filename=f, file_size=n, commit_hash=commit) for f, n in sizes.items()]
        assert str(revision).startswith("commit-of-"), "downloads must be of the commit that was looked at"
        target = self.cache / name / commit
        target.mkdir(parents=True, exist_ok=True)
        for file in files:
            (target / file.name).write_bytes(file.read_bytes())
        return str(target)

    def create_repo(self, *args: Any, **kwargs: Any) -> str:
        asked = inspect.signature(HfApi.create_repo).bind(None, *args, **kwargs).arguments
        self._reach()
        if not self.folder(asked["repo_id"]).is_dir():
            self.folder(asked["repo_id"]).mkdir(parents=True)
            self.private |= {asked["repo_id"]} if asked["private"] else set()
        assert asked["exist_ok"]
        return f"https://hub/{asked['repo_id']}"

    def model_info(self, *args: Any, **kwargs: Any) -> Any:
        name = inspect.signature(HfApi.model_info).bind(None, *args, **kwargs).arguments["repo_id"]
        siblings = [SimpleNamespace(rfilename=path.name) for path in self.folder(name).iterdir()]
        return SimpleNamespace(siblings=siblings, private=name in self.private, sha="commit-of-main")

    def create_commit(self, *args: Any, **kwargs: Any) -> None:
        asked = inspect.signature(HfApi.create_commit).bind(None, *args, **kwargs).arguments
        assert asked["parent_commit"] == "commit-of-main"
        self.commits.append(asked["repo_id"])
        for operation in asked["operations"]:
            with operation.as_file() as file:
                (self.folder(asked["repo_id"]) / operation.path_in_repo).write_bytes(file.read())
