"""The bundled twins and their trained exits: lossless where it is promised, lossy where it is said, complete."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from offramp.engine.engine import Engine
from offramp.engine.load import Checkpoint, exits_of, load
from offramp.engine.reply import Generation
from offramp.engine.request import Request, Sampling
from offramp.zoo.bundled import folder
from offramp.zoo.pack import pack
from offramp.zoo.prompts import load_prompts
from offramp.zoo.twins import PARAMETERS, TWINS

SETS = ("linear", "linear-last_block", "mamba", "transformer")
PROPAGATIONS = ("verify", "defer", "project", "skip")
SAMPLINGS = (Sampling(), Sampling(temperature=0.8, seed=7))


@cache
def checkpoint(twin: str, exits: str) -> Checkpoint:
    return load(folder(twin), exits)


def engine(twin: str, exits: str, slots: int = 1) -> Engine:
    found = checkpoint(twin, exits)
    return Engine(found.model, found.exits, found.text, slots=slots, max_len=256)


def request(twin: str, number: int, **options: object) -> Request:
    text = checkpoint(twin, "none").text
    assert text is not None
    prompt = tuple(text.encode(load_prompts()[number].prompt))
    return Request(prompt, max_tokens=24, **options)  # type: ignore[arg-type]


def said(reply: Generation) -> tuple[tuple[int, ...], list[float]]:
    return reply.tokens, [event.logprob for event in reply.events]


@pytest.mark.parametrize("twin", TWINS)
def test_every_exit_set_is_there_and_belongs(twin: str) -> None:
    assert tuple(exits_of(folder(twin))) == SETS
    default = load(folder(twin))
    assert default.exits is not None and default.exits.config.gate == "mamba"
    for name in SETS:
        found = checkpoint(twin, name)
        assert found.exits is not None and found.exits.after == (3, 6, 7, 9, 10)
        gates = [exit.gate.state_dict() for exit in found.exits]
        for other in gates[1:]:  # the published code saved the first exit's weights for all
            assert not torch.equal(gates[0]["out.weight"], other["out.weight"])


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("exits", SETS)
def test_verify_equals_plain_with_trained_gates(twin: str, exits: str) -> None:
    plain, drafting, drafts = engine(twin, "none"), engine(twin, exits), 0
    assert drafting.tier.name == "exact"
    for number, sampling in ((0, SAMPLINGS[0]), (5, SAMPLINGS[1]), (9, SAMPLINGS[0])):
        asked = request(twin, number, sampling=sampling, thresholds=(0.5,))
        reply = drafting.generate(asked)
        assert said(reply) == said(plain.generate(asked))
        drafts += reply.stats.drafts
    assert drafts > 0


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("exits", SETS)
def test_trained_rows_do_not_depend_on_their_neighbours(twin: str, exits: str) -> None:
    asked = [request(twin, i, propagation=name, thresholds=(0.6,)) for i, name in enumerate(PROPAGATIONS)]
    alone = [said(engine(twin, exits).generate(one)) for one in asked]
    shared = engine(twin, exits, slots=4)
    streams = {shared.add(one): i for i, one in enumerate(asked)}
    events: dict[int, list[tuple[int, float]]] = {i: [] for i in streams.values()}
    ended = 0
    while ended < len(asked):
        for event in shared.step():
            events[streams[event.request]].append((event.token, event.logprob))
            ended += event.finish is not None
    for i, (tokens, logprobs) in enumerate(alone):
        assert events[i] == list(zip(tokens, logprobs, strict=True))


@pytest.mark.parametrize("twin", TWINS)
def test_transformers_loads_them_and_agrees(twin: str) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder(twin), dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder(twin))
    found = checkpoint(twin, "none")
    prompt = load_prompts()[0].prompt
    assert found.text is not None and tokenizer(prompt)["input_ids"] == found.text.encode(prompt)
    tokens = torch.tensor([found.text.encode(prompt)])
    with torch.no_grad():
        ours, other = found.model(tokens), theirs(tokens).logits
    assert (ours - other).abs().max() < 1e-4 * other.abs().max()


def test_size_on_disk() -> None:
    home = Path(folder("tiny-mamba2")).parent
    assert sum(file.stat().st_size for file in home.rglob("*") if file.is_file()) < 20e6


def test_size_in_parameters() -> None:
    for twin in TWINS:
        count = sum(value.numel() for value in checkpoint(twin, "none").model.parameters())
        assert abs(count - PARAMETERS) <= 0.05 * PARAMETERS


def test_packing_again_changes_nothing(tmp_path: Path) -> None:
    packed = pack(folder("tiny-mamba2"), "copy", tmp_path)
    again, first = load(packed, "mamba"), checkpoint("tiny-mamba2", "mamba")
    assert again.exits is not None and first.exits is not None
    for mine, other in ((again.model, first.model), (again.exits, first.exits)):
        values = other.state_dict()
        assert all(torch.equal(value, values[name]) for name, value in mine.state_dict().items())
