"""What the system says of a process's memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from offramp.engine import resident as module
from offramp.engine.resident import Resident, resident

STATUS = "Name:\tpython\nVmHWM:\t 4000 kB\nVmRSS:\t 3000 kB\nRssAnon:\t 1000 kB\nRssFile:\t 2000 kB\nRssShmem:\t 0 kB\n"


def told(text: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Resident | None:
    """What is made of such a status file; None: there is none."""
    file = folder / "status"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(module, "STATUS", file)
    return resident()


def test_what_the_system_says_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(STATUS, tmp_path, monkeypatch)
    assert found == Resident(peak=4000 * 1024, own=1000 * 1024, mapped=2000 * 1024)
    assert found.line() == "peak memory 4 MB, mapped files 2 MB"
    assert Resident(2_640_000_000, 0, 999_000_000).line() == "peak memory 2.6 GB, mapped files 999 MB"


@pytest.mark.parametrize("text", [None, "", STATUS.replace("RssAnon", "Other")])
def test_a_system_that_does_not_tell(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(text, tmp_path, monkeypatch) is None
