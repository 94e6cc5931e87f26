"""Slots: many sequences pass through few, none is lost, none sees a former owner, and memory stays as it was."""

from __future__ import annotations

import gc
import math
import random
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from batch_traffic import Alone, Visit, differing, drive
from random_models import CONTEXT, VOCAB, Tiny, tiny

from offramp.engine.engine import Engine
from offramp.engine.reply import Stats
from offramp.engine.request import Request
from offramp.errors import CapacityError, QueueFull

KINDS = (
    ("llama", "mamba", "none"),
    ("mistral", "transformer", "last_block"),
    ("mamba", "linear", "last_block"),
    ("mamba2", "transformer", "block"),
    ("bamba", "mamba", "last_block"),
)
MODES = ("verify", "defer", "project", "skip")


def _roomy(kind: tuple[str, str, str], context: int) -> Tiny:
    setup = tiny(*kind, seed=60)
    setup.model.config = replace(setup.model.config, context_length=context)
    return setup


def _requests(rng: random.Random, count: int, longest: int) -> list[Request]:
    """Prompts of every length up to the longest, one-token prompts always among them."""
    lengths = [1, longest, *(int(longest ** rng.random()) for _ in range(count - 2))]
    return [
        Request(
            prompt=tuple(rng.choices(range(1, VOCAB), k=length)),
            propagation=rng.choice(MODES),
            policy=rng.choice(["always", "gate"]),
            max_tokens=rng.choice([1, 6, 12]),
            ignore_eos=True,
        )
        for length in rng.sample(lengths, count)
    ]


def test_forty_sequences_through_five_slots() -> None:
    _through(slots=5, count=40, longest=300)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_two_hundred_sequences_through_sixteen_slots(capsys: pytest.CaptureFixture[str]) -> None:
    grown = _through(slots=16, count=200, longest=2000)
    with capsys.disabled():
        print(f"\n200 sequences through 16 slots: the process grew by {grown:,} bytes after the first 70")
    assert grown < 32 << 20


def _through(slots: int, count: int, longest: int) -> int:
    """Nothing is lost or different; live tensors take what they took after a third. How far the process grew since."""
    setup = _roomy(("bamba", "transformer", "last_block"), longest + 20)
    engine = Engine(setup.model, setup.exits, slots=slots, max_len=longest + 20, prefix_memory=0)
    requests = _requests(random.Random(count), count, longest)
    first, rest = requests[: count // 3], requests[count // 3 :]
    events = drive(engine, [Visit(request) for request in first])
    tensors, process = _tensor_bytes(), _peak_bytes()
    events += drive(engine, [Visit(request) for request in rest])
    assert _tensor_bytes() == tensors
    grown = _peak_bytes() - process
    assert all(len(mine) == request.max_tokens for request, mine in zip(requests, events, strict=True))
    alone = Alone(setup, max_len=longest + 20)
    assert not differing([Visit(request) for request in requests], events, alone)
    return grown


def _tensor_bytes() -> int:
    """Of all floating-point tensors that are alive (a few indices of the last calls are kept); storage that is shared
    counts once."""
    gc.collect()
    tensors = [value for value in gc.get_objects() if type(value) in (torch.Tensor, torch.nn.Parameter)]
    storages = [value.untyped_storage() for value in tensors if value.is_floating_point()]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
@torch.inference_mode()
def test_nothing_of_a_former_owner_is_seen(
    kind: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a slot is given away, all that it holds becomes NaN, or a position that every query would see."""
    setup = _roomy(kind, 400)
    engine = Engine(setup.model, setup.exits, slots=3, max_len=400)
    reset, planted = engine.frontier.reset, []

    def plant(slot: int) -> Stats:
        _plant(engine, slot)
        planted.append(slot)
        return reset(slot)

    monkeypatch.setattr(engine.frontier, "reset", plant)
    short = [
        Request((token,), mode, "always", max_tokens=6, ignore_eos=True) for token in (4, 9) for mode in MODES
    ]
    long = _requests(random.Random(2), 4, 300)
    traffic = [Visit(request) for request in (*long[:2], *short[:4], *long[2:], *short[4:])]
    assert not differing(traffic, drive(engine, traffic), Alone(setup, max_len=400))
    assert len(planted) == len(traffic)


def _plant(engine: Engine, slot: int) -> None:
    slots = engine.slots
    for segment in engine.frontier.segments:
        segment.ring.memory[slot] = math.nan
        parts = [*segment.parts, *(part for part in (segment.gate, segment.bridge) if part)]
        for memory in (value for part in parts for value in vars(part.state).values()):
            if isinstance(memory, torch.Tensor) and slots in memory.shape[:2]:
                mine = memory[slot] if memory.shape[0] == slots else memory[:, slot]  # two SSM states a slot
                mine.fill_(math.nan if memory.is_floating_point() else 0)


@pytest.fixture(scope="module")
def llama() -> Tiny:
    return tiny("llama", "linear", seed=61)


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (Request((1,) * (CONTEXT + 1)), f"prompt has {CONTEXT + 1} tokens.*slots hold {CONTEXT}"),
        (Request((1,) * CONTEXT), f"prompt has {CONTEXT} tokens"),
        (Request((1,) * 90, forced=(1,) * 7), "prompt has 90 tokens and 7 are forced.*larger max_len"),
    ],
)
def test_what_can_never_fit_is_refused_at_once(llama: Tiny, request_: Request, why: str) -> None:
    """Whichever way it comes; nothing is queued, and the engine goes on."""
    engine = llama.engine(slots=2)
    ways: Sequence[Callable[[], object]] = (
        lambda: engine.add(request_),
        lambda: engine.add_samples(request_, 2),
        lambda: engine.stream(request_),
        lambda: engine.generate_all([Request((1,)), request_]),
    )
    for way in ways:
        with pytest.raises(CapacityError, match=why):
            way()
        assert not engine.busy
    assert len(engine.generate(Request((1,) * (CONTEXT - 1), ignore_eos=True)).tokens) == 1


def test_slots_that_do_not_fit_the_memory_are_refused(llama: Tiny) -> None:
    with pytest.raises(CapacityError, match="slots would fit"):
        llama.engine(slots=50, memory=1 << 20)
    with pytest.raises(CapacityError, match="smaller max_len or more memory"):
        llama.engine(slots=None, memory=1000)
    fitting = llama.engine(slots=None, memory=1 << 20).slots
    assert 1 <= fitting < 50 and llama.engine(slots=fitting, memory=1 << 20).slots == fitting


def test_a_full_queue_refuses_and_loses_nothing(llama: Tiny) -> None:
    """Requests that will find a free slot at once take no room in it."""
    engine = llama.engine(slots=2, queue=3)
    requests = [Request((token, 2), max_tokens=3, ignore_eos=True) for token in range(1, 9)]
    numbers = [engine.add(request) for request in requests[:5]]
    events = []
    for _ in range(2):
        with pytest.raises(QueueFull, match="waiting and the queue holds 3"):
            engine.add(requests[5])
        with pytest.raises(QueueFull):
            engine.stream(requests[5])
        events += engine.step()
        assert len(engine.queue) == 3
    while len(engine.queue) == 3:
        events += engine.step()
    with pytest.raises(QueueFull, match="no room for 3 more"):
        engine.add_samples(requests[6], 3)
    assert len(engine.queue) == 2
    numbers.append(engine.add(requests[7]))
    while engine.busy:
        events += engine.step()
    ends = [event.request for event in events if event.finish]
    assert sorted(ends) == numbers == list(range(6))
