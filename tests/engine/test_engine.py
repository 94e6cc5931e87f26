"""The engine as its user meets it: streams, slots, limits, refusals, numbers that are none."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from random_models import CONTEXT, VOCAB, Tiny, tiny
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from offramp.engine.engine import Engine
from offramp.engine.load import load
from offramp.engine.reference import reference
from offramp.engine.request import Request, Sampling
from offramp.errors import CapacityError, ExitsError, UnknownName, UsageError
from offramp.exits.exit_set import build_exits
from offramp.exits.store import ExitsInfo, save_exits
from offramp.mixers.base import CELL
from offramp.models.checkpoint import fingerprint, save_model
from offramp.registry import names
from offramp.text import Text

PROMPT = (5, 6, 7)


@pytest.fixture(scope="module")
def llama() -> Tiny:
    return tiny("llama", "mamba", seed=1)


@pytest.fixture(scope="module")
def mamba() -> Tiny:
    return tiny("mamba2", "transformer", "last_block", seed=2)


def letters() -> Text:
    """A tokenizer of one letter an id: `a` is 1; id 0 ends."""
    alphabet = (
        {"<end>": 0} | {chr(96 + i): i for i in range(1, 27)} | {chr(38 + i): i for i in range(27, VOCAB)}
    )
    tokenizer = Tokenizer(models.BPE(alphabet, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return Text(tokenizer, {"eos_token": "<end>"})


def test_whole_reply_is_the_fold_of_the_stream(llama: Tiny) -> None:
    engine = Engine(llama.model, llama.exits, letters(), max_len=CONTEXT)
    request = Request(PROMPT, max_tokens=20)
    events, reply = list(engine.stream(request)), engine.generate(request)
    assert reply.tokens == tuple(event.token for event in events)
    assert reply.text == "".join(event.text for event in events)
    assert reply.text == letters().decode([t for t in reply.tokens if t])
    assert [event.index for event in events] == list(range(len(events)))
    assert [event.finish is not None for event in events] == [False] * (len(events) - 1) + [True]


@pytest.mark.parametrize("propagation", ["verify", "defer"])
def test_stop_string_ends_the_reply_and_is_no_part_of_it(llama: Tiny, propagation: str) -> None:
    engine = Engine(llama.model, llama.exits, letters(), max_len=CONTEXT)
    whole = engine.generate(Request(PROMPT, propagation, max_tokens=40, ignore_eos=True, policy="always"))
    stop = whole.text[11:14]
    cut = engine.generate(
        Request(PROMPT, propagation, max_tokens=40, ignore_eos=True, policy="always", stop=(stop,))
    )
    assert cut.finish == "stop"
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.tokens == whole.tokens[: len(cut.tokens)]


def test_two_streams_read_in_turn(llama: Tiny) -> None:
    engine = llama.engine(slots=2)
    asked = [Request(PROMPT, max_tokens=9), Request((9, 8), "defer", "always", max_tokens=12)]
    streams = [engine.stream(request) for request in asked]
    got: list[list[int]] = [[], []]
    while any(streams):
        for i, stream in enumerate(streams):
            if stream is not None and (event := next(stream, None)) is not None:
                got[i].append(event.token)
            else:
                streams[i] = None  # type: ignore[call-overload]
    assert [tuple(tokens) for tokens in got] == [llama.engine().generate(request).tokens for request in asked]


def test_leaving_a_stream_early_frees_its_slot(llama: Tiny) -> None:
    engine = llama.engine()
    for _ in range(3):
        stream = engine.stream(Request(PROMPT, max_tokens=50))
        next(stream)
        stream.close()
    assert engine.generate(Request(PROMPT, max_tokens=5)).finish


@torch.inference_mode()
def test_slots_remember_nothing_of_former_owners(mamba: Tiny) -> None:
    """One-token prompts after long ones, with everything a slot holds set to NaN between them."""
    alone = {p: mamba.engine().generate(Request(p, max_tokens=12)).tokens for p in [(4,), (7, 8, 9)]}
    engine = mamba.engine()
    for prompt in [(7, 8, 9), (4,), (7, 8, 9), (4,)]:
        for segment in engine.frontier.segments:
            segment.ring.memory.fill_(math.nan)
            for part in segment.parts:
                for value in vars(part.state).values():
                    if isinstance(value, torch.Tensor) and value.is_floating_point() and value.dim() > 2:
                        value.fill_(math.nan)
        assert engine.generate(Request(prompt, max_tokens=12)).tokens == alone[prompt]


def test_prompts_of_several_cells(mamba: Tiny, llama: Tiny) -> None:
    """Prompts longer than a cell, one token around its border: as transformers-style whole sequences say."""
    for setup in (llama, mamba):
        config = replace(setup.model.config, context_length=2 * CELL + 40)
        model = setup.model
        model.config = config
        for length in (CELL - 1, CELL, CELL + 1, 2 * CELL + 3):
            prompt = tuple(1 + i * 7 % (VOCAB - 1) for i in range(length))
            request = Request(prompt, "verify", "always", max_tokens=6, ignore_eos=True)
            said = Engine(model, setup.exits, max_len=2 * CELL + 40).generate(request)
            assert (
                list(said.tokens) == [token for token, _ in reference(model, (), request)][: len(said.tokens)]
            )
        model.config = replace(config, context_length=CONTEXT)


@pytest.mark.parametrize("propagation", ["verify", "defer", "project"])
@pytest.mark.parametrize("policy", ["gate", "confidence"])
def test_engine_equals_the_stateless_reference(propagation: str, policy: str) -> None:
    for number, backbone in enumerate(["llama", "mistral", "mamba2", "mamba2-groups"]):
        for bridge in ("none", "last_block"):
            setup = tiny(
                backbone, ("linear", "transformer", "mamba")[number % 3], bridge, 50 + number, torch.float64
            )
            threshold = 0.5 if policy == "gate" else 0.15
            request = Request(
                PROMPT, propagation, policy, (threshold,), sampling=Sampling(0.8, seed=1), max_tokens=25
            )
            said = [(e.token, e.depth) for e in setup.engine().generate(request).events]
            slow = reference(setup.model, setup.exits, request)
            if propagation == "verify":  # the reference drafts nothing: its depths are the full model's
                said, slow = [(t, 8) for t, _ in said], [(t, 8) for t, _ in slow]
            assert said == slow


def test_fast_tier_agrees_within_its_promise(
    llama: Tiny, mamba: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without kernels. Unpadded chunks: where a token differs, the full model's two best must have been within 1e-4."""
    monkeypatch.setenv("OFFRAMP_KERNELS", "none")
    for setup in (llama, mamba):
        request = Request(PROMPT, "verify", max_tokens=60, ignore_eos=True)
        exact, fast = setup.engine().generate(request), setup.engine(tier="fast").generate(request)
        assert setup.engine(tier="fast").tier.name == "tolerance"
        pairs = enumerate(zip(exact.tokens, fast.tokens, strict=True))
        first = next((i for i, (a, b) in pairs if a != b), None)
        if first is not None:
            with torch.inference_mode():
                logits = setup.model(torch.tensor([[*PROMPT, *exact.tokens[:first]]]))[0, -1]
            best = logits.log_softmax(-1).topk(2).values
            assert best[0] - best[1] < 1e-4


@pytest.mark.parametrize("propagation", ["verify", "defer", "project", "skip"])
def test_nan_ends_the_row_where_the_full_model_meets_it(propagation: str) -> None:
    """A token whose embedding is NaN: the row ends when it would be consumed, and its neighbour notices nothing."""
    setup = tiny("llama", "mamba", seed=4)
    plain = setup.plain().generate(Request(PROMPT, max_tokens=30, ignore_eos=True))
    poison = next(token for token in plain.tokens[3:] if token not in (*PROMPT, 2, *plain.tokens[:3]))
    with torch.no_grad():
        setup.model.embed.weight[poison] = math.nan
    first = plain.tokens.index(poison)
    engine = setup.engine(slots=2)
    request = Request(PROMPT, propagation, "gate", max_tokens=30, ignore_eos=True)
    clean = Request((2, 2), propagation, "never", max_tokens=30)
    numbers = [engine.add(request), engine.add(clean)]
    events = []
    while len([event for event in events if event.finish]) < 2:
        events += engine.step()
    tokens = {n: [event.token for event in events if event.request == n] for n in numbers}
    ends = {event.request: event.finish for event in events if event.finish}
    if propagation == "verify":
        assert tokens[numbers[0]] == [*plain.tokens[: first + 1], -1]
    assert ends[numbers[0]] == "nan" or poison not in tokens[numbers[0]]
    assert tokens[numbers[1]] == list(setup.engine().generate(clean).tokens)


@pytest.mark.parametrize("propagation", ["verify", "defer", "project", "skip"])
def test_nan_gates_mean_stay(propagation: str) -> None:
    setup = tiny("llama", "linear", seed=5)
    with torch.no_grad():
        for exit in setup.exits:
            exit.gate.out.bias.fill_(math.nan)
    request = Request(PROMPT, propagation, "always", max_tokens=10, ignore_eos=True)
    reply = setup.engine().generate(request)
    assert {event.depth for event in reply.events} == {8} and reply.stats.drafts == 0


@pytest.mark.parametrize("propagation", ["verify", "defer", "project", "skip"])
@pytest.mark.parametrize("policy", ["always", "confidence"])
def test_nan_bridges_mean_stay(propagation: str, policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the bridge has already left its entry on the last block: that is taken back."""
    setup = tiny("mamba2", "linear", "last_block", seed=5)
    engine = setup.engine()
    peek = engine.frontier.peek
    monkeypatch.setattr(engine.frontier, "peek", lambda *given: peek(*given).fill_(math.nan))
    request = Request(PROMPT, propagation, policy, (0.0,), max_tokens=10, ignore_eos=True)
    assert engine.generate(request).tokens == setup.plain().generate(request).tokens


def test_logits_that_overflow_end_the_row() -> None:
    setup = tiny("llama", "linear", seed=6)
    with torch.no_grad():
        setup.model.head.weight[3].fill_(math.inf)
    reply = setup.engine().generate(Request(PROMPT, max_tokens=10))
    assert (reply.finish, reply.tokens) == ("nan", ())


def test_refusals_say_what_would_have_worked(llama: Tiny) -> None:
    engine = llama.engine()
    with pytest.raises(
        UnknownName, match="Did you mean 'confidence'.*" + ", ".join(names("offramp.policies"))
    ):
        engine.add(Request(PROMPT, policy="confidense"))
    with pytest.raises(UnknownName, match="Available: " + ", ".join(names("offramp.propagation"))):
        engine.add(Request(PROMPT, propagation="teleport"))
    with pytest.raises(CapacityError, match="prompt has 200 tokens.*hold 96"):
        engine.add(Request((1,) * 200))
    with pytest.raises(UsageError, match="2 thresholds for 3 exits"):
        engine.add(Request(PROMPT, thresholds=(0.5, 0.5)))
    with pytest.raises(UsageError, match="outside the vocabulary"):
        engine.add(Request((1, VOCAB)))
    with pytest.raises(UsageError, match="need a tokenizer"):
        engine.add(Request(PROMPT, stop=("x",)))
    with pytest.raises(UsageError, match="Available: exact, fast"):
        llama.engine(tier="quick")


def test_a_bad_request_costs_nothing(llama: Tiny) -> None:
    """It is refused when it is made or added, never later, when it would already hold a slot."""
    engine = llama.engine()
    with pytest.raises(UsageError, match="stop string"):
        engine.add(Request(PROMPT, stop=("",)))
    with pytest.raises(UnknownName):
        engine.stream(Request(PROMPT, policy="nonsense"))
    assert engine.generate(Request(PROMPT, max_tokens=3)).finish


def test_added_requests_keep_their_events_beside_a_stream(llama: Tiny) -> None:
    engine = llama.engine(slots=2)
    added, request = engine.add(Request(PROMPT, max_tokens=4, ignore_eos=True)), Request((9,), max_tokens=30)
    streamed = engine.generate(request)
    assert [event.index for event in engine.step() if event.request == added] == [0, 1, 2, 3]
    assert streamed.tokens == llama.engine().generate(request).tokens


@pytest.mark.parametrize("options", [{"slots": 0}, {"slots": -1}, {"max_len": 0}, {"max_len": -5}])
def test_impossible_engines(llama: Tiny, options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="must be a count of at least 1"):
        Engine(llama.model, llama.exits, **options)


def test_exits_that_do_not_fit_the_model(llama: Tiny) -> None:
    first, second, third = llama.exits
    for exits in ([third, first], [first, first]):
        with pytest.raises(UsageError, match="ascending"):
            Engine(llama.model, exits)
    for after, bridge in ((8, "none"), (9, "none"), (7, "last_block")):
        config = replace(llama.exits.config, after=(after,), bridge=bridge)
        with pytest.raises(UsageError, match="block"):
            Engine(llama.model, build_exits(config))


def test_ends_in_their_order(llama: Tiny) -> None:
    by_context = llama.engine().generate(Request((1,) * 90, max_tokens=500, ignore_eos=True))
    assert by_context.finish == "context" and len(by_context.tokens) == CONTEXT - 90
    by_count = llama.engine().generate(Request((1,) * 90, max_tokens=CONTEXT - 90, ignore_eos=True))
    assert by_count.finish == "max_tokens"


def test_work_is_counted_truly(mamba: Tiny) -> None:
    """`last_block` runs the last block: a token that leaves after 2 of 8 blocks costs 3."""
    request = Request(PROMPT, "project", "always", run_max=3, max_tokens=9, ignore_eos=True)
    stats = mamba.engine().generate(request).stats
    # The first token comes from the prompt's head. Then three leave after block 2, one reaches the end, and so on.
    left, deep = 6, 2
    assert stats.tokens == 9
    assert stats.block_tokens == stats.block_passes == left * 3 + deep * 8
    assert stats.advances == left * 5
    assert stats.head_rows == 9


def test_a_full_row_consumes_no_last_draft(llama: Tiny) -> None:
    """Drafts that fill the row are judged before the newest is run: nothing after it could be kept."""
    for count in (2, 3, 5):
        request = Request((1, 2), "verify", "always", max_tokens=count, run_max=15, ignore_eos=True)
        drafted, plain = llama.engine().generate(request), llama.plain().generate(request)
        assert drafted.tokens == plain.tokens
        if drafted.stats.accepted == drafted.stats.drafts:
            assert drafted.stats.block_tokens == plain.stats.block_tokens


@torch.inference_mode()
def test_a_drafted_stop_string_is_judged_at_once() -> None:
    """Blocks that change nothing: every draft is right, so whatever is drafted behind the end is wasted."""
    setup = tiny("llama", "linear", seed=1)
    for block in setup.model.blocks:
        block.mixer.o_proj.weight.zero_()  # type: ignore[union-attr]
        block.mlp.down_proj.weight.zero_()  # type: ignore[union-attr]
    engine = Engine(setup.model, setup.exits, letters(), max_len=CONTEXT)
    request = Request(PROMPT, "verify", "always", run_max=15, max_tokens=40, ignore_eos=True)
    whole = engine.generate(request)
    stop = whole.text[4:7]
    cut = engine.generate(replace(request, stop=(stop,)))
    assert cut.finish == "stop" and cut.text == whole.text[: whole.text.index(stop)]
    assert cut.stats.drafts == cut.stats.accepted == len(cut.tokens) - 1


@pytest.mark.parametrize("backbone", ["llama", "mamba2", "mamba2-groups"])
@pytest.mark.parametrize("gate", ["linear", "transformer", "mamba"])
def test_bfloat16_weights(backbone: str, gate: str) -> None:
    """bf16 weights, on Mamba-2 under a float32 residual stream: everything runs, and `verify` keeps its word."""
    setup = tiny(backbone, gate, "last_block", seed=8, dtype=torch.bfloat16)
    engine, plain = setup.engine(), setup.plain()
    for propagation in ("verify", "defer", "project", "skip"):
        request = Request(PROMPT, propagation, "always", max_tokens=12, ignore_eos=True)
        reply = engine.generate(request)
        assert len(reply.tokens) == 12
        if propagation == "verify" and engine.tier.name == "exact":
            assert reply.tokens == plain.generate(request).tokens


def test_some_exits_keep_their_suggested_thresholds(llama: Tiny, tmp_path: Path) -> None:
    save_model(llama.model, tmp_path)
    info = ExitsInfo("llama", fingerprint(llama.model), "exact", thresholds=(0.2, 0.4, 0.6))
    save_exits(llama.exits, info, tmp_path / "exits" / "mamba")
    found = load(tmp_path, exits_at=(2, 6))
    assert found.exits is not None and found.exits.after == (2, 6)
    assert found.info is not None and found.info.thresholds == (0.2, 0.6)
    assert load(tmp_path, "none").exits is None
    with pytest.raises(UsageError, match="exits sit after"):
        load(tmp_path, exits_at=(3,))
    with pytest.raises(ExitsError, match="Did you mean 'mamba'"):
        load(tmp_path, "manba")
