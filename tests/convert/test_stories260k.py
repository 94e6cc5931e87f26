"""A real model of llama2.c, 260 thousand parameters, against what the original C program wrote for it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from offramp.convert import llama2c, llama2c_tokenizer
from offramp.convert.depth import truncate
from offramp.convert.source import Source, from_folder
from offramp.convert.write import write_folder
from offramp.data.documents import Documents
from offramp.engine.engine import Engine
from offramp.engine.load import Checkpoint, load
from offramp.engine.reply import Stats
from offramp.engine.request import Request
from offramp.exits.base import ExitConfig
from offramp.exits.exit_set import build_exits
from offramp.models.base import Model
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.exits import train_exits

DATA = Path(__file__).parents[2] / "../shared/data"
MODEL = DATA / "models" / "stories260K"
ORACLE = DATA / "oracle" / "stories260K_runc_greedy.jsonl"

pytestmark = pytest.mark.skipif(
    not ORACLE.is_file(), reason="stories260K is not there (../shared/data beside the checkout)"
)


def said_by_c() -> Iterator[tuple[str, int, str]]:
    """Prompt, positions run (the first is the begin of the sequence), and what was printed."""
    for line in ORACLE.read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        yield item["prompt"], item["steps"], item["stdout"].removesuffix("\n")


def source() -> Source:
    model = llama2c.read(MODEL / "stories260K.bin")
    words = llama2c_tokenizer.files(MODEL / "tok512.bin", model.config["vocab_size"])
    return Source(model.config, model.tensors, {**model.files, **words})


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stories") / "stories260K"
    write_folder(source(), folder)
    return folder


def written(
    checkpoint: Checkpoint, engine: Engine, prompt: str, positions: int, **options: Any
) -> tuple[str, Stats]:
    """run.c prints one token a position, those of the prompt included."""
    assert checkpoint.text is not None
    ids = tuple(checkpoint.text.encode(prompt))
    reply = engine.generate(Request(ids, max_tokens=positions + 1 - len(ids), **options))
    return checkpoint.text.decode([*ids, *reply.tokens]), reply.stats


@torch.inference_mode()
def own_stories(model: Model, count: int, length: int) -> Documents:
    """Texts the model itself makes up, `length` tokens each; every eighth is held out."""
    torch.manual_seed(0)
    ids_RT = torch.full((count, 1), 1)
    while ids_RT.shape[1] < length:
        next_R1 = torch.multinomial(model(ids_RT)[:, -1].softmax(-1), 1)
        ids_RT = torch.cat([ids_RT, next_R1], dim=1)
    rows = ids_RT.tolist()
    return Documents([row for i, row in enumerate(rows) if i % 8], rows[::8], "its own stories")


def test_out_again_byte_for_byte(stories: Path, tmp_path: Path) -> None:
    llama2c.write(from_folder(stories), tmp_path / "again.bin")
    assert (tmp_path / "again.bin").read_bytes() == (MODEL / "stories260K.bin").read_bytes()


def test_greedy_text_is_the_c_program_s(stories: Path) -> None:
    checkpoint = load(stories)
    engine = Engine(checkpoint.model, None, checkpoint.text)
    for prompt, positions, expected in said_by_c():
        assert written(checkpoint, engine, prompt, positions)[0] == expected


@torch.inference_mode()
def test_how_far_each_block_s_lens_agrees(stories: Path, tmp_path: Path) -> None:
    """Printed with -s. What a block's lens says is what the model cut off there says."""
    checkpoint = load(stories)
    assert checkpoint.text is not None
    blocks, agreed, count = checkpoint.model.config.num_blocks, torch.zeros(6), 0
    cut = [truncate(from_folder(stories), depth) for depth in range(1, blocks)]
    for depth, model in enumerate(cut, 1):
        write_folder(model, tmp_path / str(depth))
    for _, _, text in said_by_c():
        ids = torch.tensor([checkpoint.text.encode(text)])
        states = checkpoint.model.hidden_states(ids)
        chosen = torch.stack([checkpoint.model.logits(state).argmax(-1)[0] for state in states])
        agreed += (chosen == chosen[-1]).sum(-1)
        count += ids.numel()
    share = [round(float(part) / count, 3) for part in agreed]
    print(f"agreement of the logit lens after 0 to {blocks} blocks with the model, {count} tokens: {share}")
    assert share[-1] == 1 and share[0] < share[-2]
    for depth in range(1, blocks):
        model = load(tmp_path / str(depth)).model
        assert torch.equal(model(ids), checkpoint.model.logits(states[depth]))


@pytest.fixture(scope="module")
def documents(stories: Path) -> Documents:
    return own_stories(load(stories).model, count=64, length=128)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("gate", ["linear", "mamba"])
def test_with_exits_trained_in_a_minute_verify_is_the_c_program_s(
    gate: str, stories: Path, documents: Documents, tmp_path: Path
) -> None:
    """They learn from the model's own sampled stories. Printed with -s: how far they agree, what they draft."""
    checkpoint = load(stories)
    model = checkpoint.model
    exits = build_exits(ExitConfig(gate, "none", (2, 3, 4), model.config.hidden_size, 1e-5), 5)
    recipe = ExitTrainConfig(steps=100, tokens_per_step=1024, window=128)
    began = time.process_time()
    outcome, info = train_exits(model, exits, documents, recipe, tmp_path / "exits")
    assert outcome.finished and info is not None
    print(f"{gate}: {time.process_time() - began:.0f} s; {info.metrics}; thresholds {info.thresholds}")
    engine = Engine(model, exits.select((4,)), checkpoint.text)  # drafts are made at the first exit alone
    for threshold in (0.3, 0.5, 0.7):
        replies = [
            written(checkpoint, engine, prompt, positions, thresholds=(threshold,))
            for prompt, positions, _ in said_by_c()
        ]
        assert [text for text, _ in replies] == [text for _, _, text in said_by_c()]
        drafts, accepted = (
            sum(getattr(stats, name) for _, stats in replies) for name in ("drafts", "accepted")
        )
        print(f"threshold {threshold}: {accepted} of {drafts} drafts accepted")
        assert 0 < accepted <= drafts
