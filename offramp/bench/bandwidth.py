"""How fast memory can be read: what a decode step can be held against.

The C library's `memchr` looks for a byte that is not there: vectorised everywhere, and called through ctypes it lets
other threads run. The buffer is larger than the last cache, where memory allows, and made anew for each look:
engines that wait hold none.
"""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from offramp.engine.memory import free_bytes

LEAST, MOST = 1 << 26, 1 << 31
"""Bytes of the buffer."""
TIMES = 3
"""Readings; the fastest counts: what disturbs only slows."""
ABSENT = 0


def bandwidth(threads: int) -> float:
    """Bytes a second that so many threads read."""
    size = buffer_bytes(threads)
    buffer = np.ones(size, np.uint8)
    share = size // threads
    with ThreadPoolExecutor(threads) as pool:
        starts = [buffer.ctypes.data + i * share for i in range(threads)]
        return max(_once(pool, starts, share) for _ in range(TIMES))


def buffer_bytes(threads: int) -> int:
    """Twice the last cache, within a quarter of the memory that is free."""
    wanted = max(LEAST, min(2 * last_cache(), MOST, free_bytes(torch.device("cpu")) // 4))
    return wanted // (threads * 4096) * threads * 4096


def last_cache() -> int:
    """Bytes of the largest cache that the system tells of; 0 where it tells of none."""
    sizes = [0]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text(encoding="ascii").strip()
        if text[:-1].isdecimal() and text[-1] in "KMG":
            sizes.append(int(text[:-1]) << {"K": 10, "M": 20, "G": 30}[text[-1]])
    return max(sizes)


def _once(pool: ThreadPoolExecutor, starts: list[int], size: int) -> float:
    began = perf_counter()
    found = list(pool.map(lambda start: _look(start, size), starts))
    taken = perf_counter() - began
    assert not any(found)
    return len(starts) * size / taken


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("msvcrt" if os.name == "nt" else None)
    library.memchr.restype = ctypes.c_void_p
    library.memchr.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    return library


_C = _library()


def _look(start: int, size: int) -> int | None:
    return _C.memchr(start, ABSENT, size)
