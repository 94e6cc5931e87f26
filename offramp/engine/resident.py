"""What this process has in memory, as the system counts it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

STATUS = Path("/proc/self/status")
LINES = {"peak": "VmHWM", "own": "RssAnon", "mapped": "RssFile"}


@dataclass(frozen=True)
class Resident:
    """Bytes. peak: of all kinds together, the most since the process began. own: nobody else's, now. mapped: pages of
    files, now, a memory-mapped checkpoint's among them: the system has one copy for all processes, and takes it back
    when the room is needed."""

    peak: int
    own: int
    mapped: int

    def line(self) -> str:
        """For people."""
        return f"peak memory {_said(self.peak)}, mapped files {_said(self.mapped)}"


def resident() -> Resident | None:
    """None where the system does not tell (only Linux does)."""
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    said = {name: text.split() for name, _, text in (line.partition(":") for line in lines)}
    if not all(line in said for line in LINES.values()):
        return None
    return Resident(**{field: int(said[line][0]) * 1024 for field, line in LINES.items()})


def _said(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
