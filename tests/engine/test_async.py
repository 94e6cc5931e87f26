"""AsyncEngine: many readers, one engine; nobody waits for another, nothing is lost, every slot comes back."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any

import pytest
from random_models import VOCAB, Tiny, tiny

from offramp.engine.asynchronous import AsyncEngine
from offramp.engine.engine import Engine
from offramp.engine.reply import Generation, TokenEvent
from offramp.engine.request import Request, Sampling
from offramp.errors import CapacityError, OfframpError, QueueFull, UsageError
from offramp.mixers.base import RUN_LIMIT

LONG = Request((5, 6, 7), max_tokens=60, ignore_eos=True)


@pytest.fixture(scope="module")
def llama() -> Tiny:
    return tiny("llama", "mamba", seed=1)


def run(test: Coroutine[Any, Any, None]) -> None:
    """With a limit: what hangs fails."""
    asyncio.run(asyncio.wait_for(test, 60))


async def until(happened: Callable[[], bool]) -> None:
    while not happened():
        await asyncio.sleep(0.002)


def requests(count: int, seed: int) -> list[Request]:
    draw = random.Random(seed)
    return [
        Request(
            prompt=tuple(draw.randrange(1, VOCAB) for _ in range(draw.randint(1, 12))),
            propagation=draw.choice(["verify", "verify", "defer", "skip"]),
            thresholds=(draw.choice([0.2, 0.5, 0.8]),),
            sampling=Sampling(temperature=draw.choice([0.0, 1.0]), seed=i),
            max_tokens=draw.randint(1, 30),
            priority=draw.randint(0, 2),
        )
        for i in range(count)
    ]


def said(reply: Generation) -> list[tuple[int, float, str, str | None]]:
    return [(event.token, event.logprob, event.text, event.finish) for event in reply.events]


def test_many_streams_equal_the_synchronous_engine(llama: Tiny) -> None:
    asked = requests(14, seed=3)
    alone = [said(llama.engine().generate(request)) for request in asked]

    async def test() -> None:
        async with AsyncEngine(llama.engine(slots=3)) as engine:
            replies = await asyncio.gather(*(engine.generate(request) for request in asked))
            assert [said(reply) for reply in replies] == alone

    run(test())


def test_the_loop_is_not_blocked(llama: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one turn takes a quarter of a second, the loop goes round."""
    engine = llama.engine()
    step = engine.step
    monkeypatch.setattr(engine, "step", lambda: (time.sleep(0.25), step())[1])

    async def test() -> None:
        async with AsyncEngine(engine) as running:
            reply = asyncio.create_task(running.generate(Request((5, 6), max_tokens=1)))
            rounds = 0
            while not reply.done():
                await asyncio.sleep(0.01)
                rounds += 1
            assert rounds >= 5

    run(test())


def test_a_slow_reader_stops_itself_alone(llama: Tiny) -> None:
    alone = said(llama.engine().generate(LONG))

    async def test() -> None:
        inner = llama.engine(slots=2)
        async with AsyncEngine(inner, buffer=20) as engine:
            slow = engine.stream(LONG)
            events = [await anext(slow)]
            for request in requests(6, seed=4):  # they pass while it does not read
                await engine.generate(request)
            [reader] = engine._readers
            assert reader.paused and reader.inbox.qsize() <= 20
            [row] = inner._running.values()
            assert row.paused and row.emitted < 30
            events += [event async for event in slow]
            assert [(e.token, e.logprob, e.text, e.finish) for e in events] == alone

    run(test())


def test_no_buffer_is_ever_longer_than_it_may_be(llama: Tiny) -> None:
    """`always` under `verify` gives many events at once."""

    async def test() -> None:
        async with AsyncEngine(llama.engine(slots=4), buffer=RUN_LIMIT) as engine:
            longest = 0

            async def read(request: Request) -> int:
                count = 0
                async for _ in engine.stream(request):
                    nonlocal longest
                    longest = max([longest, *(reader.inbox.qsize() for reader in engine._readers)])
                    count += 1
                    await asyncio.sleep(0.003 * (count % 3))
                return count

            asked = [
                Request((i + 1,), "verify", policy, max_tokens=50, run_max=15, ignore_eos=True)
                for i, policy in enumerate(["always", "gate", "always", "never", "always"])
            ]
            assert await asyncio.gather(*map(read, asked)) == [50] * 5
            assert 1 < longest <= RUN_LIMIT

    run(test())


def test_nothing_spins_while_every_reader_is_slow(llama: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paused row holds the only slot; another request waits. When it is read on, both end."""
    inner, turns = llama.engine(), 0
    step = inner.step

    def counted() -> list[TokenEvent]:
        nonlocal turns
        turns += 1
        return step()

    monkeypatch.setattr(inner, "step", counted)

    async def test() -> None:
        async with AsyncEngine(inner, buffer=RUN_LIMIT) as engine:
            await asyncio.sleep(0.05)
            assert turns == 0, "nothing was asked"
            slow = engine.stream(LONG)
            await anext(slow)
            other = asyncio.create_task(engine.generate(Request((9,), max_tokens=3, ignore_eos=True)))
            await until(lambda: engine._turns is None)
            before = turns
            await asyncio.sleep(0.1)
            assert turns == before and len(inner.queue) == 1 and not other.done()
            assert len([event async for event in slow]) == 59
            assert len((await other).tokens) == 3
            await until(lambda: engine._turns is None)

    run(test())


def test_leaving_the_loop_cancels(llama: Tiny) -> None:
    async def test() -> None:
        inner = llama.engine(slots=2)
        async with AsyncEngine(inner) as engine:
            async for _ in engine.stream(LONG):
                break
            async with aclosing(engine.stream(LONG)) as events:
                await anext(events)
            await until(lambda: not inner.busy)
            inner.check_integrity()
            assert len(inner._free) == 2

    run(test())


@pytest.mark.parametrize("seed", range(6))
def test_cancellation_at_any_moment_frees_every_slot(llama: Tiny, seed: int) -> None:
    draw = random.Random(seed)
    asked = requests(24, seed)
    alone = {i: said(llama.engine().generate(asked[i])) for i in range(0, 24, 4)}
    inner = llama.engine(slots=3, queue=4)

    async def test() -> None:
        async with AsyncEngine(inner, buffer=RUN_LIMIT) as engine:

            async def slowly(events: AsyncIterator[TokenEvent]) -> None:
                async for _ in events:
                    await asyncio.sleep(draw.choice([0, 0, 0.01]))

            async def cancelled(request: Request) -> None:
                task = asyncio.create_task(slowly(engine.stream(request)))
                await asyncio.sleep(draw.random() * draw.choice([0, 0.02, 0.3]))
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

            tasks = [
                asyncio.create_task(engine.generate(request) if i in alone else cancelled(request))
                for i, request in enumerate(asked)
            ]
            replies = await asyncio.gather(*tasks)
            assert {i: said(replies[i]) for i in alone} == alone, "those beside them notice nothing"
        inner.check_integrity()
        assert not inner.busy and len(inner._free) == 3 and not inner._outbox
        assert not engine._readers and not engine._numbers

    run(test())
    assert said(inner.generate(asked[0])) == alone[0], "the engine is as good as before"


def test_a_full_queue(llama: Tiny) -> None:
    async def test() -> None:
        async with AsyncEngine(llama.engine(queue=1), buffer=RUN_LIMIT) as engine:
            running, waiting = engine.stream(LONG), engine.stream(LONG)
            await anext(running)
            second = asyncio.create_task(anext(waiting))
            await until(lambda: len(engine.engine.queue) == 1)
            with pytest.raises(QueueFull, match="no room for 1 more"):
                await engine.generate(LONG, wait=False)
            order: list[int] = []

            async def late(number: int) -> None:
                async for event in engine.stream(Request((number,), max_tokens=3, ignore_eos=True)):
                    if event.index == 0:
                        order.append(number)

            tasks = [asyncio.create_task(late(number)) for number in range(1, 6)]
            await asyncio.sleep(0.05)
            assert order == []
            await running.aclose()
            await second
            await waiting.aclose()
            await asyncio.gather(*tasks)
            assert order == [1, 2, 3, 4, 5], "first come, first served"

    run(test())


def test_what_cannot_be_served_is_refused(llama: Tiny) -> None:
    async def test() -> None:
        async with AsyncEngine(llama.engine()) as engine:
            with pytest.raises(CapacityError, match="the prompt has 1000 tokens"):
                await engine.generate(Request((1,) * 1000))
            with pytest.raises(UsageError, match="outside the vocabulary"):
                await engine.generate(Request((10**9,)))
            assert len((await engine.generate(LONG)).tokens) == 60, "others are not disturbed"

    run(test())


def test_an_error_in_a_turn_reaches_everybody(llama: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who read, those who wait for a slot, those who wait for room in the queue, and those who come later."""
    inner = llama.engine(queue=1)
    step, turns = inner.step, iter(range(100))

    def broken() -> list[TokenEvent]:
        if next(turns) > 3:
            raise RuntimeError("the disk of the moon is full")
        return step()

    monkeypatch.setattr(inner, "step", broken)

    async def test() -> None:
        async with AsyncEngine(inner) as engine:
            results = await asyncio.gather(*[engine.generate(LONG) for _ in range(5)], return_exceptions=True)
            assert [str(result) for result in results] == ["the disk of the moon is full"] * 5
            with pytest.raises(RuntimeError, match="moon"):
                await engine.generate(LONG)
        inner.check_integrity()
        assert not inner.busy

    run(test())


def test_closing_ends_every_stream(llama: Tiny) -> None:
    """What a reader has not read yet still comes, then the error."""

    async def test() -> None:
        inner = llama.engine(queue=1)
        engine = AsyncEngine(inner)
        slow = engine.stream(LONG)
        first = await anext(slow)
        await until(lambda: engine._turns is None)
        [reader] = engine._readers
        unread = reader.inbox.qsize()
        tasks = [asyncio.create_task(engine.generate(LONG)) for _ in range(4)]
        await asyncio.sleep(0.01)
        await engine.close()
        await engine.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, OfframpError) and "closed" in str(result) for result in results)
        indices = [first.index]
        with pytest.raises(OfframpError, match="was closed before this reply had ended"):
            async for event in slow:
                indices.append(event.index)
        assert indices == list(range(unread + 1)) and unread > 0
        with pytest.raises(OfframpError, match="closed"):
            await engine.generate(LONG)
        inner.check_integrity()
        assert not inner.busy

    run(test())


def test_closing_in_the_middle_of_a_turn(llama: Tiny) -> None:
    async def test() -> None:
        inner = llama.engine(slots=2)
        engine = AsyncEngine(inner)
        tasks = [asyncio.create_task(engine.generate(LONG)) for _ in range(2)]
        await until(lambda: len(inner._running) == 2)
        await engine.close()
        assert not inner.busy, "at once, when close returns"
        for task in tasks:
            with pytest.raises(OfframpError, match="closed"):
                await task

    run(test())


def test_a_loop_that_ends_without_close(llama: Tiny) -> None:
    """asyncio.run cancels what is left; nothing hangs and the slots come back."""
    inner = llama.engine(slots=2)

    async def main() -> None:
        engine = AsyncEngine(inner)
        task = asyncio.create_task(engine.generate(LONG))
        await until(lambda: bool(inner._running))
        assert not task.done()

    run(main())
    deadline = time.monotonic() + 10
    while inner.busy and time.monotonic() < deadline:
        time.sleep(0.01)
    inner.check_integrity()
    assert not inner.busy


def test_impossible_engines(llama: Tiny) -> None:
    busy = llama.engine()
    busy.add(LONG)
    with pytest.raises(UsageError, match="has requests already"):
        AsyncEngine(busy)
    with pytest.raises(UsageError, match="buffer is 15; it must be at least 16"):
        AsyncEngine(Engine(llama.model, llama.exits), buffer=15)
