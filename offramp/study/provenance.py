"""With what a study was run, for its report: versions, commit, processor and cores; never a machine's name or path."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("offramp", "torch", "numpy", "tokenizers", "safetensors")
_HASH = re.compile(r"[0-9a-f]{40}")


def provenance(processes: int, device: str = "cpu", dtype: str = "f32") -> dict[str, str]:
    """By name, in the order in which it is shown."""
    return {
        "commit": commit(Path(__file__).parents[2]) or "not known (installed, not checked out)",
        **{name: _version(name) for name in PACKAGES},
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": str(os.cpu_count() or 1),
        "processes": str(processes),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "number format": dtype,
    }


def commit(root: Path) -> str:
    """The checked-out commit of the repository at `root`; "" where there is none."""
    try:
        head = (root / ".git" / "HEAD").read_text(encoding="utf-8").strip()
        name = head.removeprefix("ref: ")
        found = head if name == head else _ref(root / ".git", name)
    except (OSError, ValueError):
        return ""
    return found if _HASH.fullmatch(found) else ""


def processor() -> str:
    """The processor's model, as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _ref(git: Path, name: str) -> str:
    if (git / name).is_file():
        return (git / name).read_text(encoding="utf-8").strip()
    packed = (git / "packed-refs").read_text(encoding="utf-8").splitlines()
    found = [line.split()[0] for line in packed if line.endswith(f" {name}")]
    return found[0] if found else ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"
