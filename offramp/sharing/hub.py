"""An exits folder to and from the hub. There it is a model repository with the same files and a card.

Fetched are exits.json, model.safetensors and README.md alone, within limits: whatever else lies there stays there.
"""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, cast

import huggingface_hub  # its parts come when they are first used: folders need none

from offramp.errors import ExitsError, OfframpError
from offramp.exits.store import CARD_FILE, CONFIG_FILE, FILES, WEIGHTS_FILE
from offramp.files import SMALL, read_json
from offramp.models.folder import HUB_ID

if TYPE_CHECKING:
    import huggingface_hub.errors  # whatever raises them has imported them

REVISION = re.compile(r"[A-Za-z0-9][\w./-]*")
LIMITS = {CONFIG_FILE: SMALL, CARD_FILE: SMALL, WEIGHTS_FILE: 4 << 30}
"""Bytes. Five full-width Mamba-2 gates for a model of 7B are about 2 GiB in float32."""


def is_hub_id(text: str) -> bool:
    """Whether it looks like `owner/name` or `owner/name@revision`."""
    name, at, revision = text.partition("@")
    plain = bool(HUB_ID.fullmatch(name)) and (not at or bool(REVISION.fullmatch(revision)))
    return plain and "--" not in name and ".." not in text


def fetch_exits(wanted: str) -> Path:
    """The folder of the exits `owner/name[@revision]`, downloaded or from the cache.

    Raises ExitsError where there are none, where they are larger than exits are, and without a connection where
    they were not fetched before.
    """
    name, _, revision = wanted.partition("@")
    try:
        folder = Path(_snapshot(name, revision or None, wanted))
    except _errors() as error:
        raise ExitsError(
            f"there is no folder {wanted!r}, and as a hub id its exits could not be fetched: {_reason(error)}. "
            "Exits that were fetched before, or any local folder of them, need no connection."
        ) from error
    for file in FILES:
        if not (folder / file).is_file():
            raise ExitsError(f"{wanted} on the hub holds no exits: {file} is missing")
    _refuse_large(wanted, {file: (folder / file).stat().st_size for file in FILES})
    return folder


def _snapshot(name: str, revision: str | None, wanted: str) -> str:
    """Sizes are asked first, then exactly that commit is fetched."""
    files = list(LIMITS)
    try:
        planned = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=files, dry_run=True
        )
    except huggingface_hub.errors.DryRunError:  # no connection
        return huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=files)
    _refuse_large(wanted, {file.filename: file.file_size or 0 for file in planned})
    commit = planned[0].commit_hash if planned else revision
    return huggingface_hub.snapshot_download(name, revision=commit, allow_patterns=files)


def _refuse_large(wanted: str, sizes: dict[str, int]) -> None:
    for file, size in sizes.items():
        if size > LIMITS[file]:
            raise ExitsError(f"{wanted}: {file} has {size:,} bytes; exits have at most {LIMITS[file]:,}")


def push_exits(folder: Path, name: str, card: str, private: bool = False) -> str:
    """Write the folder's exits and their card into the hub's model repository `owner/name`, in one commit.

    The repository is made if it is not there. Paths in exits.json become their last part. Returns its address.
    Raises OfframpError where the hub refuses, where the repository holds something else, a model say, and where it
    is public though `private` is asked for.
    """
    contents: dict[str, str | bytes] = {
        CONFIG_FILE: _published(folder / CONFIG_FILE),
        WEIGHTS_FILE: str(folder / WEIGHTS_FILE),
        CARD_FILE: card.encode("utf-8", "replace"),  # half a surrogate pair is no UTF-8
    }
    api = huggingface_hub.HfApi(library_name="offramp")
    try:
        url = api.create_repo(name, private=private or None, repo_type="model", exist_ok=True)
        parent = _check_repository(api, name, private)
        api.create_commit(
            name,
            [
                huggingface_hub.CommitOperationAdd(path_in_repo=file, path_or_fileobj=data)
                for file, data in contents.items()
            ],
            commit_message="Exits and their card",
            repo_type="model",
            parent_commit=parent,  # nobody wrote there since it was looked at
        )
    except _errors() as error:
        raise OfframpError(f"{name} was not pushed: {_reason(error)} (`hf auth login` logs in)") from error
    return str(url)


def _check_repository(api: huggingface_hub.HfApi, name: str, private: bool) -> str | None:
    """Its newest commit. Raises OfframpError for one that exits would overwrite, or that everybody can read."""
    found = api.model_info(name)
    files = {file.rfilename for file in found.siblings or ()}
    others = sorted(files - {*LIMITS, ".gitattributes"})
    if files - {CARD_FILE, ".gitattributes"} and (others or CONFIG_FILE not in files):
        listed = ", ".join((others or sorted(files))[:3])
        raise OfframpError(
            f"{name} holds something other than exits ({listed}): name a repository of their own"
        )
    if private and not found.private:
        raise OfframpError(f"{name} exists and is public: make it private on the hub, or name another")
    return found.sha


def _published(path: Path) -> bytes:
    """exits.json with names in place of paths: where files lay on somebody's disk is nobody's business."""
    raw = read_json(path, SMALL, ExitsError)
    info = raw["info"]
    info["revision"] = short_name(info.get("revision", ""))
    if isinstance(info.get("data"), dict) and "source" in info["data"]:
        info["data"]["source"] = PurePath(str(info["data"]["source"])).name  # a path always, never a hub id
    try:
        return (json.dumps(raw, indent=1, allow_nan=False) + "\n").encode()
    except (ValueError, RecursionError) as error:
        raise ExitsError(f"{path} cannot be written as JSON again: {error}") from error


def short_name(text: str) -> str:
    """A hub id as it is, of another path its last part."""
    return text if HUB_ID.fullmatch(text) else PurePath(text).name


def _errors() -> tuple[type[Exception], ...]:
    """Whatever can go wrong with the connection (an HTTPError of the client in use), with files, with names."""
    bases = huggingface_hub.errors.HfHubHTTPError.__bases__
    return cast(tuple[type[Exception], ...], (*bases, ValueError))


def _reason(error: BaseException) -> str:
    """The first line of an error that says something, or its kind."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
