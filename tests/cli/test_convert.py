"""`offramp convert` and `offramp export`: what is written runs, and what cannot be is said in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.convert import runc


@pytest.fixture
def llama2c(tmp_path: Path) -> tuple[Path, Path]:
    """A file of llama2.c and its tokenizer."""
    tokens = runc.vocabulary()
    model, words = tmp_path / "model.bin", tmp_path / "tokenizer.bin"
    model.write_bytes(runc.checkpoint((16, 24, 2, 4, 2, len(tokens), 32)))
    words.write_bytes(runc.tokenizer_file(tokens))
    return model, words


def test_llama2c_in_generate_and_out_again(run: Any, llama2c: tuple[Path, Path], tmp_path: Path) -> None:
    model, words = llama2c
    result = run("convert", model, tmp_path / "folder", "--tokenizer", words)
    assert (result.code, result.out) == (0, "") and "written to" in result.err
    generated = run("generate", tmp_path / "folder", "abc ab", "--max-tokens", "4")
    assert generated.code == 0, generated.err
    assert run("convert", tmp_path / "folder", tmp_path / "again.bin", "--to", "llama2c").code == 0
    assert (tmp_path / "again.bin").read_bytes() == model.read_bytes()


def test_types_shards_and_exits(run: Any, checkpoint: Path, tmp_path: Path) -> None:
    options = ("--dtype", "bf16", "--max-shard-size", "2KB")
    assert run("convert", checkpoint, tmp_path / "bf16", *options).code == 0
    assert len(list((tmp_path / "bf16").glob("*.safetensors"))) > 1
    generated = run("generate", tmp_path / "bf16", "hello", "--max-tokens", "4")
    assert generated.code == 0 and "left after block" in generated.err  # the exits still know their backbone
    half = run("convert", checkpoint, tmp_path / "f16", "--dtype", "f16")
    assert half.code == 0 and "exits were left out" in half.err


def test_an_adapter_is_merged(run: Any, checkpoint: Path, tmp_path: Path) -> None:
    folder, name = tmp_path / "adapter", "model.layers.0.self_attn.o_proj"
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["o_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    ones = {f"base_model.model.{name}.lora_A.weight": torch.ones(2, 16)}
    ones[f"base_model.model.{name}.lora_B.weight"] = torch.ones(16, 2)
    save_file(ones, folder / "adapter_model.safetensors")
    result = run("convert", checkpoint, tmp_path / "merged", "--lora", folder)
    assert result.code == 0 and "exits were left out" in result.err
    before, after = (load_file(at / "model.safetensors") for at in (checkpoint, tmp_path / "merged"))
    assert torch.allclose(after[f"{name}.weight"], before[f"{name}.weight"] + 4)  # 4 / 2 times two ones
    refused = run("convert", folder, tmp_path / "never")
    assert refused.code == 1 and "--lora" in refused.err


def test_the_first_blocks_generate_and_draft(run: Any, checkpoint: Path, tmp_path: Path) -> None:
    result = run("export", checkpoint, tmp_path / "first", "--depth", "2")
    assert result.code == 0 and "drafts for the whole model" in result.err
    generated = run("generate", tmp_path / "first", "hello", "--max-tokens", "4")
    assert generated.code == 0 and "of 2" in generated.err
    again = run("export", checkpoint, tmp_path / "first", "--depth", "2")
    assert again.code == 1 and "not replaced" in again.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["convert", "{model}", "{out}"], 2, "--tokenizer FILE"),
        (["convert", "{folder}", "{out}", "--tokenizer", "{words}"], 2, "brings its own"),
        (["convert", "{folder}", "{out}", "--to", "llama2c", "--dtype", "bf16"], 2, "leave out --dtype"),
        (["convert", "{folder}", "{out}", "--to", "llama2c"], 1, "norm_eps"),
        (["convert", "{folder}", "{out}", "--max-shard-size", "2"], 2, "2GB, 500MB"),
        (["convert", "{folder}", "{out}", "--dtype", "f8"], 2, "f8"),
        (["convert", "{folder}", "{out}", "--lora", "{out}"], 1, "adapter_config.json"),
        (["convert", "{folder}", "{folder}"], 1, "not replaced"),
        (["convert", "{words}", "{out}", "--tokenizer", "{words}"], 1, "no checkpoint of llama2.c"),
        (["convert", "{model}", "{out}", "--tokenizer", "{model}"], 1, "tokenizer.bin"),
        (["convert", "{out}", "{out}"], 1, "no folder"),
        (["export", "{folder}", "{out}", "--depth", "4"], 2, "1 to 3"),
        (["export", "{folder}", "{out}", "--depth", "0"], 2, "1 to 3"),
        (["export", "{folder}", "{out}"], 2, "depth"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_written(
    run: Any,
    checkpoint: Path,
    llama2c: tuple[Path, Path],
    tmp_path: Path,
    words: list[str],
    code: int,
    said: str,
) -> None:
    places = {"model": llama2c[0], "words": llama2c[1], "folder": checkpoint, "out": tmp_path / "out"}
    result = run(*(word.format(**places) for word in words))
    assert result.code == code, result.err
    assert said in result.err
    assert not (tmp_path / "out").exists()
