"""Folders written tensor by tensor: the library's bytes, shards that fit, numbers that fit, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from offramp.convert.dtypes import cast
from offramp.convert.source import LazyTensor, Source, from_folder
from offramp.convert.write import parse_size, split, write_folder, write_tensors
from offramp.errors import CheckpointError, OfframpError, UsageError
from offramp.models.checkpoint import fingerprint, load_model
from offramp.models.tensors import INDEX, SINGLE
from tests.models import tiny


def lazy(tensor: Tensor) -> LazyTensor:
    return LazyTensor(tuple(tensor.shape), tensor.dtype, lambda: tensor)


def source_of(**tensors: Tensor) -> Source:
    return Source({"dtype": "float32"}, {name: lazy(tensor) for name, tensor in tensors.items()}, {})


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    tiny.make("llama", folder)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "exits" / "mine").mkdir(parents=True)
    (folder / "exits" / "mine" / "exits.json").write_text("{}")
    (folder / "notes.txt").write_text("not part of the checkpoint")
    return folder


def test_the_bytes_are_the_library_s(tmp_path: Path) -> None:
    tensors = {
        "b.weight": torch.randn(3, 5),
        "é": torch.randn(7).bfloat16(),
        "a": torch.arange(4),
        "none": torch.zeros(0, 3),
        "scalar": torch.tensor(True),
        "turned": torch.randn(4, 6).half().T,
    }
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(whole, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    write_tensors({name: lazy(tensor) for name, tensor in tensors.items()}, tmp_path / "ours.safetensors")
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()


@pytest.mark.parametrize("room", [1, 50, 60, 100, 1000, None])
def test_shards_hold_everything_once_and_no_more_than_they_may(room: int | None) -> None:
    tensors = {f"t{i}": lazy(torch.zeros(size)) for i, size in enumerate([5, 9, 1, 14, 2, 2])}
    shards = split(tensors, room)
    assert [name for shard in shards for name in shard] == list(tensors)
    for shard in shards:
        assert len(shard) == 1 or sum(tensor.nbytes for tensor in shard.values()) <= (room or 1000)
    if room == 60:  # bytes: 20 + 36 + 4, 56, 8 + 8
        assert [len(shard) for shard in shards] == [3, 1, 2]


def test_sharded_and_joined_again(llama: Path, tmp_path: Path) -> None:
    write_folder(from_folder(llama), tmp_path / "shards", max_shard=20_000)
    index = json.loads((tmp_path / "shards" / INDEX).read_text())
    files = sorted(path.name for path in (tmp_path / "shards").glob("*.safetensors"))
    assert len(files) > 2 and files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert sorted(set(index["weight_map"].values())) == files
    write_folder(from_folder(tmp_path / "shards"), tmp_path / "joined")
    assert (tmp_path / "joined" / SINGLE).read_bytes() == (llama / SINGLE).read_bytes()
    ours, theirs = load_file(tmp_path / "joined" / SINGLE), load_file(llama / SINGLE)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in theirs.values())
    assert fingerprint(load_model(tmp_path / "shards")) == fingerprint(load_model(llama))


def test_transformers_reads_shards_and_types(llama: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    write_folder(cast(from_folder(llama), "bf16"), tmp_path / "bf16", max_shard=20_000)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "bf16", dtype="auto")
    before = transformers.AutoModelForCausalLM.from_pretrained(llama)
    assert theirs.dtype == torch.bfloat16
    after = theirs.state_dict()
    for name, weight in before.state_dict().items():
        assert torch.equal(after[name], weight.bfloat16())


def test_what_belongs_to_a_checkpoint_goes_along(llama: Path, tmp_path: Path) -> None:
    write_folder(cast(from_folder(llama), "bf16"), tmp_path / "bf16")
    assert (tmp_path / "bf16" / "tokenizer.json").is_file()
    assert (tmp_path / "bf16" / "exits" / "mine" / "exits.json").is_file()
    assert not (tmp_path / "bf16" / "notes.txt").exists()
    assert fingerprint(load_model(tmp_path / "bf16")) == fingerprint(load_model(llama))
    write_folder(cast(from_folder(llama), "f16"), tmp_path / "f16")
    assert not (tmp_path / "f16" / "exits").exists()


def linked(llama: Path, folder: Path) -> Path:
    """The checkpoint as the hub's cache holds it: `snapshots/<commit>` full of links into `blobs`."""
    for number, file in enumerate(path for path in llama.rglob("*") if path.is_file()):
        blob = folder / "blobs" / f"{number}"
        link = folder / "snapshots" / "c0ffee" / file.relative_to(llama)
        for parent in (blob.parent, link.parent):
            parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, blob)
        link.symlink_to(blob)
    return folder / "snapshots" / "c0ffee"


def test_of_a_set_of_exits_only_its_own_files_go_along(llama: Path, tmp_path: Path) -> None:
    model = linked(llama, tmp_path)
    for name in ("exits.json", "README.md", "notes.txt", ".hidden", "deeper/exits.json"):
        for at in ("exits", "exits/other", "exits/.linear.1.new"):
            (model / at / name).parent.mkdir(parents=True, exist_ok=True)
            (model / at / name).write_text("{}")
    (model / "exits" / "DEFAULT").write_text("mine")
    os.mkfifo(model / "tokenizer.pipe")
    (model / "tokenizer").mkdir()
    assert set(from_folder(model).files) == {
        "exits/DEFAULT", "exits/README.md", "exits/exits.json", "exits/mine/exits.json",
        "exits/other/README.md", "exits/other/exits.json", "exits/deeper/exits.json",
        "generation_config.json", "tokenizer.json",
    }  # fmt: skip


@pytest.mark.parametrize("link", ["tokenizer.secret", "vocab.json", "exits/DEFAULT", "exits/mine/README.md"])
@pytest.mark.parametrize("layout", ["plain", "cache"])
def test_a_link_out_of_the_checkpoint_is_not_followed(
    llama: Path, tmp_path: Path, link: str, layout: str
) -> None:
    (tmp_path / "secret").write_text("mine")
    model = linked(llama, tmp_path / "hub") if layout == "cache" else tmp_path / "copy"
    if layout == "plain":
        shutil.copytree(llama, model)
    (model / link).symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match=f"{link} is a link that leads out of the checkpoint"):
        from_folder(model)


def test_nor_is_a_folder_that_is_one(llama: Path, tmp_path: Path) -> None:
    shutil.copytree(llama, tmp_path / "copy")
    (tmp_path / "copy" / "exits" / "theirs").symlink_to(llama / "exits" / "mine")
    with pytest.raises(CheckpointError, match="exits/theirs/exits.json is a link that leads out"):
        from_folder(tmp_path / "copy")
    (tmp_path / "copy" / "exits" / "theirs").unlink()
    (tmp_path / "copy" / "exits" / "theirs").symlink_to("mine")
    assert "exits/theirs/exits.json" in from_folder(tmp_path / "copy").files


def test_only_floating_point_is_cast() -> None:
    source = source_of(a=torch.tensor([1.0, 2.0]), b=torch.tensor([1, 2]))
    assert {name: tensor.read().dtype for name, tensor in cast(source, "f16").tensors.items()} == {
        "a": torch.float16,
        "b": torch.int64,
    }
    assert cast(source, "bf16").config == {"dtype": "bfloat16"}
    with pytest.raises(UsageError, match="Did you mean 'bf16'"):
        cast(source, "bf15")


@pytest.mark.parametrize(("name", "value"), [("f16", 1e5), ("bf16", 3.4e38), ("f32", 1e39)])
def test_overflow_is_named_and_nothing_is_written(name: str, value: float, tmp_path: Path) -> None:
    source = source_of(fine=torch.ones(3), big=torch.tensor([1.0, value, -value], dtype=torch.float64))
    with pytest.raises(CheckpointError, match="tensor big overflows: 2 of its 3 values"):
        write_folder(cast(source, name), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", [None, "f16"])
def test_values_that_are_none_are_refused(value: float, name: str | None, tmp_path: Path) -> None:
    source = source_of(bad=torch.tensor([1.0, value]))
    with pytest.raises(CheckpointError, match="bad holds NaN or infinite"):
        write_folder(source if name is None else cast(source, name), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_stays(llama: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OfframpError, match="not replaced"):
        write_folder(from_folder(llama), tmp_path)
    with pytest.raises(OfframpError, match="not replaced"):
        write_folder(from_folder(llama), llama)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("said", "size"),
    [("2GB", 2 * 10**9), ("1.5 gib", 3 << 29), ("500MB", 5 * 10**8), ("7b", 7), ("1TB", 10**12)],
)
def test_sizes(said: str, size: int) -> None:
    assert parse_size(said) == size


@pytest.mark.parametrize("said", ["", "2", "GB", "0GB", "-1GB", "2XB", "1e3GB", "٢GB", "nanGB"])
def test_sizes_that_are_none(said: str) -> None:
    with pytest.raises(UsageError, match="2GB, 500MB"):
        parse_size(said)
