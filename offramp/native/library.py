"""The kernels' library: found, checked, opened, and run over a pool of threads.

One library lies in `lib/` for every set of instructions that could be built; the best one this processor runs is taken.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import threading
from ctypes import c_int64, c_void_p
from functools import cache
from pathlib import Path

from offramp.errors import CapacityError, UsageError
from offramp.native.structures import ABI, Call, Step
from offramp.native.threads import default_threads

FOLDER = Path(__file__).parent / "lib"
SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
ISAS = ("amx", "avx512bf16", "avx512", "avx2", "neon", "plain")
"""Sets of instructions, the best first."""

NOT_BUILT = (
    "the CPU kernels were not built when offramp was installed, so PyTorch runs everything; with GCC or Clang at "
    "hand, installing offramp again builds them."
)


def find() -> Library | None:
    """The library OFFRAMP_KERNELS asks for, by default the best one; None where there is none: see `why_not`.

    Raises UsageError for one this machine cannot run.
    """
    found = _look(os.environ.get("OFFRAMP_KERNELS") or "auto")
    return found if isinstance(found, Library) else None


def why_not() -> str:
    """Why `find` gives None, in a sentence; "" where it does not, or was asked to."""
    found = _look(os.environ.get("OFFRAMP_KERNELS") or "auto")
    return found if isinstance(found, str) else ""


def runnable() -> tuple[str, ...]:
    """The sets of instructions that were built and that this processor can run, the best first."""
    return tuple(isa for isa in ISAS if _file(isa).exists() and _runs(isa))


@cache
def load(isa: str) -> Library:
    """The library of one set of instructions that is `runnable`. Raises OSError for a damaged or outdated one."""
    return Library(isa, _file(isa))


@cache
def _look(wanted: str) -> Library | str:
    """The library, or why there is none."""
    if wanted == "none":
        return ""
    isas = runnable()
    if wanted not in ("auto", *isas):
        raise UsageError(
            f"OFFRAMP_KERNELS is {wanted!r}; this machine can run: {', '.join(('auto', 'none', *isas))}."
        )
    found = _first(isas) if wanted == "auto" else load(wanted)
    if isinstance(found, str):
        logging.getLogger("offramp").info(found)
    return found


def _first(isas: tuple[str, ...]) -> Library | str:
    if not isas:
        return NOT_BUILT
    try:
        return load(isas[0])
    except OSError as error:
        return f"the CPU kernels cannot be used, so PyTorch runs everything: {error}."


class Library:
    """Kernels by name, and the threads that run them. Another process, also a forked one, has threads of its own.

    Threads are started by the first run; `threads` may be set between runs, and results do not depend on it.
    """

    def __init__(self, isa: str, file: Path) -> None:
        """Raises OSError for a file that is no library, or one built from other sources."""
        self.isa = isa
        self._kernels: dict[str, int] = {}
        self._dll = ctypes.CDLL(str(file.absolute()))
        self._dll.offramp_abi.restype = c_int64
        if (abi := self._dll.offramp_abi()) != ABI:
            raise OSError(
                f"{file.name} was built from other sources (version {abi}, not {ABI}); build it again"
            )
        self._dll.offramp_pool.argtypes, self._dll.offramp_pool.restype = [c_int64], c_void_p
        self._dll.offramp_run.argtypes = [c_void_p, c_void_p, c_int64, c_void_p]
        self._dll.offramp_run.restype = None
        self.threads = default_threads()
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """No pools yet. In a forked child: those there are have no threads."""
        self._pools: dict[int, int] = {}
        self._lock = threading.Lock()

    def kernel(self, name: str) -> int:
        """A kernel's address."""
        if name not in self._kernels:
            assert hasattr(self._dll, name), f"no kernel {name} in {self._dll._name}"
            address = ctypes.cast(getattr(self._dll, name), c_void_p).value
            assert address is not None
            self._kernels[name] = address
        return self._kernels[name]

    def run(self, steps: ctypes.Array[Step], count: int, call: Call) -> None:
        """All threads run step after step. One run at a time: others wait.

        Raises CapacityError where the system does not give so many threads.
        """
        with self._lock:
            self._dll.offramp_run(self._pool(), steps, count, ctypes.byref(call))

    def _pool(self) -> int:
        if self.threads not in self._pools:
            pool = self._dll.offramp_pool(self.threads)
            if not pool:
                raise CapacityError(
                    f"the system gives no {self.threads} threads; ask for fewer (OFFRAMP_THREADS)."
                )
            self._pools[self.threads] = pool
        return self._pools[self.threads]


def _file(isa: str) -> Path:
    return FOLDER / f"offramp-{isa}{SUFFIX}"


@cache
def _runs(isa: str) -> bool:
    """Whether the processor can; plain C and NEON (part of 64-bit ARM) run wherever they were built."""
    if isa in ("plain", "neon"):
        return True
    try:
        return bool(ctypes.CDLL(str(_file("plain").absolute()))[f"offramp_runs_{isa}"]())
    except (OSError, AttributeError):
        return False
