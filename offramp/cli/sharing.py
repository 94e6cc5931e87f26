"""From the options of `offramp push` to a card and a commit on the hub."""

from __future__ import annotations

import sys
from pathlib import Path

from offramp.cli.harmless import harmless
from offramp.errors import UsageError
from offramp.exits.store import read_exits
from offramp.files import SMALL, read_text
from offramp.models.folder import HUB_ID
from offramp.sharing.card import check_card, make_card
from offramp.sharing.hub import push_exits


def run(
    folder: Path,
    name: str,
    license: str | None,
    base_model: str | None,
    card: Path | None,
    *,
    private: bool,
    dry_run: bool,
) -> None:
    """Check the exits, make their card, push both. Raises the library's errors."""
    if not HUB_ID.fullmatch(name):
        raise UsageError(f"{name!r} is no hub id: give owner/name.")
    text = _card(folder, name, license, base_model, card)
    if dry_run:
        print(harmless(text))
        return
    print(push_exits(folder, name, text, private))
    print(f"offramp generate {base_model or 'MODEL'} --exits {name}", file=sys.stderr)


def _card(folder: Path, name: str, license: str | None, base_model: str | None, card: Path | None) -> str:
    exits, info = read_exits(folder)
    if card is not None:
        if license or base_model:
            raise UsageError(
                "--card says the licence and the base model itself: leave out --license, --base-model."
            )
        return check_card(read_text(card, SMALL, UsageError))
    if license is None:
        raise UsageError(
            "say under which licence the exits may be used: --license apache-2.0, mit, cc-by-4.0 ..."
        )
    return make_card(exits, info, name, license, base_model)
