"""The engine for asyncio: it runs in a thread of its own, and events come to whoever awaits them.

The thread takes one job after the other: a turn, a request, a cancellation. So the engine never meets two threads, and
what is sent to it happens in the order in which it was sent. All else here belongs to the event loop alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from offramp.engine.engine import Engine, fold
from offramp.engine.reply import Generation, TokenEvent
from offramp.engine.request import Request
from offramp.errors import OfframpError, QueueFull, UsageError
from offramp.mixers.base import RUN_LIMIT


class _Reader:
    """Who waits for a request's events.

    number: the request's, once the engine has it; the thread's to write. paused: whether the engine was told to wait
    for the reader.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.paused = False
        self.inbox: asyncio.Queue[TokenEvent | Exception] = asyncio.Queue()


class AsyncEngine:
    """Many coroutines read from one engine; none of them blocks the event loop, or another.

    engine: nothing of its own may wait or run, and nobody else may use it until this one is closed.
    buffer: events that wait for a slow reader. A request whose buffer is nearly full is paused until its reader has
    caught up; it keeps its slot meanwhile. What a reply says depends on none of this.
    Raises UsageError for an engine that is busy, or a buffer that cannot hold what one turn may give.
    """

    def __init__(self, engine: Engine, buffer: int = 64) -> None:
        if engine.busy:
            raise UsageError("the engine has requests already; let them end, or give a fresh one.")
        if buffer < RUN_LIMIT:
            raise UsageError(f"buffer is {buffer}; it must be at least {RUN_LIMIT}, what one turn may give.")
        self.engine, self.buffer = engine, buffer
        self._thread = ThreadPoolExecutor(1, "offramp-engine")
        self._numbers: dict[int, _Reader] = {}  # the thread's: who reads what is running or queued
        self._readers: set[_Reader] = set()
        self._turns: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self._closed = False
        self._line, self._room = asyncio.Lock(), asyncio.Event()

    async def stream(self, request: Request, *, wait: bool = True) -> AsyncGenerator[TokenEvent, None]:
        """The request's events as they become final. Leaving the loop or cancelling the task cancels the request.

        The request is queued when the first event is asked for. wait: where the queue is full, wait for room; else
        QueueFull is raised. Raises what `Engine.add` raises, what went wrong in the engine, and OfframpError where
        it is closed before the reply has ended.
        """
        self._check_open()
        reader = _Reader()
        self._readers.add(reader)
        try:
            await self._begin(reader, request, wait)
            finished = False
            while not finished:
                event = await self._next(reader)
                finished = event.finish is not None
                yield event
        finally:
            self._leave(reader)

    async def generate(self, request: Request, *, wait: bool = True) -> Generation:
        """The whole reply: the fold of `stream`."""
        return fold([event async for event in self.stream(request, wait=wait)])

    async def close(self) -> None:
        """End every stream with an error that says so, once the turn that is running is over. After this the engine
        is free, and others may use it."""
        if self._closed:
            return
        self._closed = True
        self._end(
            OfframpError("the AsyncEngine was closed before this reply had ended; make another to go on.")
        )
        last = self._thread.submit(lambda: None)
        self._thread.shutdown(wait=False)
        await asyncio.wrap_future(last)

    async def __aenter__(self) -> AsyncEngine:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.close()

    # ---- a request's way in and out

    async def _begin(self, reader: _Reader, request: Request, wait: bool) -> None:
        """Queue the request. Those that wait for room stand in line, first come first served."""
        if not (wait and self._line.locked()):
            try:
                return await self._add(reader, request)
            except QueueFull:
                if not wait:
                    raise
        async with self._line:
            while True:
                self._room.clear()
                try:
                    return await self._add(reader, request)
                except QueueFull:
                    await self._room.wait()

    async def _add(self, reader: _Reader, request: Request) -> None:
        self._check_open()

        def add() -> None:
            reader.number = self.engine.add(request)
            self._numbers[reader.number] = reader

        await asyncio.wrap_future(self._thread.submit(add))
        self._go_on()

    def _check_open(self) -> None:
        if self._error is not None:
            raise self._error

    async def _next(self, reader: _Reader) -> TokenEvent:
        item = await reader.inbox.get()
        if isinstance(item, Exception):
            raise item
        caught_up = reader.inbox.qsize() <= (self.buffer - RUN_LIMIT) // 2
        if reader.paused and caught_up and reader in self._readers:
            self._pause(reader, False)
            self._go_on()
        return item

    def _leave(self, reader: _Reader) -> None:
        """Forget a request that has not ended; one that has is in no set any more."""
        if reader in self._readers:
            self._forget(reader)
            self._go_on()

    def _forget(self, reader: _Reader) -> None:
        """Cancel a reader's request, whether or not the thread has come to add it."""

        def forget() -> None:
            if reader.number is not None:
                self._numbers.pop(reader.number, None)
                self.engine.cancel(reader.number)

        self._readers.discard(reader)
        self._thread.submit(forget)
        self._room.set()  # who is woken comes to the thread behind `forget`

    def _pause(self, reader: _Reader, paused: bool) -> None:
        assert reader.number is not None, "it has events already"
        reader.paused = paused
        self._thread.submit(self.engine.pause, reader.number, paused)

    def _end(self, error: Exception) -> None:
        """Nothing goes on after this: every reader gets the error behind what it has not read yet."""
        self._error = self._error or error
        for reader in list(self._readers):
            reader.inbox.put_nowait(self._error)
            self._forget(reader)

    # ---- turns

    def _go_on(self) -> None:
        """Take turns, unless that is being done, or there is none to take."""
        if self._turns is None and self._can_run():
            self._turns = asyncio.create_task(self._take_turns())

    def _can_run(self) -> bool:
        """Whether any row can take a turn. Rows that are paused keep their slots, and may keep all of them."""
        paused = sum(reader.paused for reader in self._readers)
        return paused < min(self.engine.slots, len(self._readers))

    async def _take_turns(self) -> None:
        try:
            while self._can_run():
                for reader, event in await asyncio.wrap_future(self._thread.submit(self._turn)):
                    self._deliver(reader, event)
                self._room.set()
        except Exception as error:
            self._end(error)
        finally:
            self._turns = None

    def _turn(self) -> list[tuple[_Reader, TokenEvent]]:
        """One turn, in the engine's thread: what became final, and for whom."""
        found = [(self._numbers[event.request], event) for event in self.engine.step()]
        for _, event in found:
            if event.finish:
                del self._numbers[event.request]
        return found

    def _deliver(self, reader: _Reader, event: TokenEvent) -> None:
        if reader not in self._readers:
            return
        reader.inbox.put_nowait(event)
        if event.finish:
            self._readers.discard(reader)
        elif not reader.paused and reader.inbox.qsize() > self.buffer - RUN_LIMIT:
            self._pause(reader, True)
