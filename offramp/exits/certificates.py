"""The certificates beside a set of exits: `certificates/NAME.json` in its folder, one a metric, risk and binding."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from offramp.errors import ExitsError, UsageError
from offramp.exits.certificate import Certificate
from offramp.files import SMALL, read_json, write_whole

CERTIFICATES = "certificates"
MOST_FILES = 1024


def read_certificate(path: Path) -> Certificate:
    """Raises ExitsError naming the file and what is wrong with it."""
    raw = read_json(path, SMALL, ExitsError)
    try:
        return Certificate.from_json(raw)
    except UsageError as error:
        raise ExitsError(f"{path} is damaged: {error}; calibrate again with `offramp calibrate`") from error


def certificates_of(exits: Path) -> list[Certificate]:
    """All certificates in an exits folder, by file name. Raises ExitsError as `read_certificate` does."""
    files = _files(exits)
    if len(files) > MOST_FILES:
        raise ExitsError(f"{exits / CERTIFICATES} holds {len(files):,} certificates; {MOST_FILES:,} are read")
    return [read_certificate(file) for file in files]


def refuse_second(exits: Path, certificate: Certificate) -> None:
    """Raises ExitsError where these exits were calibrated before for the same promise, on other documents or steps.

    Whoever calibrates several times and keeps what suits has chosen among random results: the confidence that the
    certificate states would no longer be true.
    """
    for file in _files(exits):
        if _is_other_look(read_certificate(file), certificate):
            raise ExitsError(
                f"{file} certifies the same on other documents or in other steps. Choosing between two calibrations "
                "voids the guarantee of both; calibrate on the same documents and steps, or give --replace if that one "
                "was a mistake"
            )


def save_certificate(certificate: Certificate, exits: Path, replace: bool = False) -> Path:
    """Write it beside the exits, complete or not at all; its file.

    replace: an earlier one for the same promise on other documents or steps goes. Raises ExitsError as `refuse_second`
    does.
    """
    if not (exits / "exits.json").is_file():
        raise ExitsError(f"{exits} holds no exits that a certificate could lie beside")
    if not replace:
        refuse_second(exits, certificate)
    for file in _files(exits):
        if _is_other_look(read_certificate(file), certificate):
            file.unlink()
    path = exits / CERTIFICATES / certificate.file_name
    path.parent.mkdir(exist_ok=True)
    write_whole(path, json.dumps(certificate.to_json(), separators=(",", ":"), allow_nan=False) + "\n")
    return path


def lie_beside(folder: Path, files: Collection[str], card: str) -> bool:
    """Whether a folder holds exactly these files, perhaps a card, and certificates (and what a crash left of one)."""
    if not (folder / CERTIFICATES).is_dir():
        return False
    found = {path.name: path.is_file() for path in folder.iterdir() if path.name not in (CERTIFICATES, card)}
    names = {path.name for path in (folder / CERTIFICATES).iterdir() if not path.name.startswith(".")}
    return found == dict.fromkeys(files, True) and names == {file.name for file in _files(folder)}


def forget_certificates(folder: Path) -> None:
    """Those of exits that are about to be replaced."""
    if (folder / CERTIFICATES).is_dir():
        shutil.rmtree(folder / CERTIFICATES)


def _files(exits: Path) -> list[Path]:
    return sorted(file for file in (exits / CERTIFICATES).glob("*.json") if not file.name.startswith("."))


def _is_other_look(earlier: Certificate, later: Certificate) -> bool:
    """Whether both state the same, found on other documents or along another path."""
    return _promise(earlier) == _promise(later) and _look(earlier) != _look(later)


def _promise(certificate: Certificate) -> tuple[object, ...]:
    """What a certificate states. Another confidence, or losses found in another way, are a second look all the same;
    so are other documents, whose longest prompt may have another length."""
    return replace(certificate.binding, prompt_tokens=1), certificate.metric, certificate.risk


def _look(certificate: Certificate) -> tuple[object, ...]:
    """What it was found on. The same documents give the same path, as long as it has as many steps."""
    return certificate.data, len(certificate.path)
