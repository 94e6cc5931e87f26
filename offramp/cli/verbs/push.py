"""`offramp push`: an exits folder to the Hugging Face hub, with a card that says what it is."""

from __future__ import annotations

from pathlib import Path


def push(
    folder: Path,
    name: str,
    /,
    *,
    license: str | None = None,
    base_model: str | None = None,
    card: Path | None = None,
    private: bool = False,
    dry_run: bool = False,
) -> None:
    """Push exits to the Hugging Face hub; `--exits owner/name` loads them.

    Example: offramp push exits/mamba owner/exits-for-my-model --license apache-2.0

    Parameters
    ----------
    folder
        An exits folder: exits.json and model.safetensors.
    name
        owner/name on the hub. Made if it is not there.
    license
        The exits' licence by the hub's name: apache-2.0, mit, cc-by-4.0 ... Needed unless --card names it.
    base_model
        The backbone on the hub, owner/name, for the card.
    card
        A README.md of your own in place of the one made from exits.json.
    private
        Only for you.
    dry_run
        Show the card and push nothing.
    """
    from offramp.cli.sharing import run

    run(folder, name, license, base_model, card, private=private, dry_run=dry_run)
