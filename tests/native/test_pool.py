"""The pool: threads that run a program step by step, wait for each other, and give way to other processes."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from ctypes import POINTER, Structure, c_int64
from pathlib import Path

import pytest

from offramp.native.library import Library, find
from offramp.native.structures import Call, Step

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "offramp/native/src"
COMPILER = shutil.which("cc")
ITEMS = 24

needs_library = pytest.mark.skipif(find() is None, reason="no kernels were built here")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")


class Shift(Structure):
    _fields_ = [
        ("source", POINTER(c_int64)),
        ("target", POINTER(c_int64)),
        ("items", c_int64),
        ("times", POINTER(c_int64)),
    ]


@pytest.fixture(scope="module")
def shift(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, int]:
    """The addresses of shift.c's kernel and of what says which memory it reads."""
    assert COMPILER is not None
    file = tmp_path_factory.mktemp("shift") / "shift.so"
    subprocess.run(
        [COMPILER, "-O2", "-fPIC", "-shared", f"-I{SOURCES}", HERE / "shift.c", "-o", file], check=True
    )
    library = ctypes.CDLL(str(file))
    kernel, reads = (ctypes.cast(f, ctypes.c_void_p).value for f in (library.shift, library.shift_reads))
    assert kernel is not None and reads is not None
    return kernel, reads


@pytest.fixture
def library() -> Iterator[Library]:
    library = find()
    assert library is not None
    before = library.threads
    yield library
    library.threads = before


def shifted(library: Library, shift: tuple[int, int], steps: int, runs: int = 1) -> list[int]:
    """What so many steps make of 0, 1, 2, ...: steps is even, so that the numbers are where they began. Each item must
    be taken once in every step."""
    numbers = [(c_int64 * ITEMS)(*range(ITEMS)), (c_int64 * ITEMS)()]
    times = (c_int64 * ITEMS)()
    there, back = Shift(*numbers, ITEMS, times), Shift(*numbers[::-1], ITEMS, times)
    pair = [Step(shift[0], ctypes.addressof(there), shift[1]), Step(shift[0], ctypes.addressof(back))]
    program = (Step * steps)(*(pair * (steps // 2)))
    call = Call()
    for _ in range(runs):
        library.run(program, steps, call)
    assert list(times) == [steps * runs] * ITEMS
    return list(numbers[0])


def expected(steps: int) -> list[int]:
    return [(i + steps) % ITEMS + steps for i in range(ITEMS)]


@needs_library
@needs_compiler
@pytest.mark.parametrize("threads", [1, 2, 3, 4, 7])
def test_no_thread_is_ahead_by_a_step(library: Library, shift: tuple[int, int], threads: int) -> None:
    library.threads = threads
    assert shifted(library, shift, 100) == expected(100)
    assert shifted(library, shift, 2, runs=500) == expected(1000)


@needs_library
@needs_compiler
def test_more_threads_than_items(library: Library, shift: tuple[int, int]) -> None:
    library.threads = ITEMS + 3
    assert shifted(library, shift, 10) == expected(10)


@needs_library
@pytest.mark.parametrize("threads", [1, 3])
def test_a_program_without_steps(library: Library, threads: int) -> None:
    library.threads = threads
    for _ in range(10_000):
        library.run((Step * 0)(), 0, Call())


@needs_library
@needs_compiler
def test_threads_that_went_to_sleep_are_woken(library: Library, shift: tuple[int, int]) -> None:
    library.threads = 3
    for _ in range(20):
        threading.Event().wait(0.002)  # many times what they spin
        assert shifted(library, shift, 2) == expected(2)


@needs_library
@needs_compiler
def test_threads_of_python_take_turns(library: Library, shift: tuple[int, int]) -> None:
    library.threads = 2
    found: list[list[int]] = []
    callers = [
        threading.Thread(target=lambda: found.append(shifted(library, shift, 2, runs=200))) for _ in range(3)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == [expected(400)] * 3


@needs_library
@needs_compiler
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(library: Library, shift: tuple[int, int]) -> None:
    library.threads = 3
    assert shifted(library, shift, 2) == expected(2)
    child = os.fork()
    if child == 0:  # the parent's threads are not here: without new ones it would wait for ever
        os._exit(0 if shifted(library, shift, 10) == expected(10) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert shifted(library, shift, 2) == expected(2)


@needs_library
@needs_compiler
def test_signals_reach_python(library: Library, shift: tuple[int, int]) -> None:
    """A thread of the pool that took one would leave Ctrl-C to nobody."""
    import signal

    library.threads = 4
    shifted(library, shift, 2)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(1)
    finally:
        signal.signal(signal.SIGINT, before)


@needs_library
@needs_compiler
def test_the_process_ends_while_threads_spin(shift: tuple[int, int]) -> None:
    code = (
        "from offramp.native.library import find\nfrom offramp.native.structures import Call, Step\n"
        "library = find()\nlibrary.threads = 4\n"
        "step = Step(library.kernel('offramp_abi'), None)\nlibrary.run((Step * 1)(step), 1, Call())"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def _burn(stop: float) -> None:
    import time

    while time.monotonic() < stop:
        pass


@pytest.mark.slow
@needs_library
@needs_compiler
def test_beside_a_busy_process_on_every_core(library: Library, shift: tuple[int, int]) -> None:
    """Threads that only spun would wait whole time slices for each other: 20,000 steps would take minutes."""
    import time

    library.threads = min(4, os.cpu_count() or 1)
    spawn = multiprocessing.get_context("spawn")
    stop = time.monotonic() + 60
    others = [spawn.Process(target=_burn, args=(stop,), daemon=True) for _ in range(os.cpu_count() or 1)]
    for other in others:
        other.start()
    began = time.monotonic()
    try:
        assert shifted(library, shift, 2, runs=10_000) == expected(20_000)
        assert time.monotonic() - began < 50
    finally:
        for other in others:
            other.kill()


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_sanitizers_find_nothing(sanitizer: str, tmp_path: Path) -> None:
    assert COMPILER is not None
    program = tmp_path / "pool"
    sources = [HERE / "shift.c", SOURCES / "pool.c"]
    options = ["-std=c11", "-O1", "-g", "-DMAIN", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    built = subprocess.run(
        [COMPILER, *options, f"-I{SOURCES}", *sources, "-lm", "-lpthread", "-o", program],
        capture_output=True,
    )
    if built.returncode:
        pytest.skip(f"this compiler has no sanitizer for {sanitizer}")
    ran = subprocess.run([program], capture_output=True, text=True, timeout=100)
    assert (ran.returncode, ran.stderr) == (0, "")
