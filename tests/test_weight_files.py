"""Files of weights: a disk that takes no more is said and leaves nothing half written; the umask says who reads."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from offramp.cli.failures import report
from offramp.exits.base import ExitConfig
from offramp.exits.exit_set import build_exits
from offramp.exits.info import ExitsInfo
from offramp.exits.store import save_exits
from offramp.files import whole_file, write_whole
from offramp.models.checkpoint import save_model
from offramp.models.families import family_for
from offramp.models.initial import init_weights
from offramp.models.tensors import write_tensors
from offramp.training import checkpoint
from tests.training.tiny import WIDTH

ROOM = 512  # bytes, which no file of weights fits in


@contextmanager
def full_disk() -> Iterator[None]:
    """Files may not grow beyond ROOM: the one error of a full disk that a test can cause."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def exits(folder: Path) -> None:
    config = ExitConfig("linear", "none", (2, 4), WIDTH, 1e-5, bottleneck=8)
    save_exits(build_exits(config), ExitsInfo("llama", "0", "exact"), folder / "exits")


def model(folder: Path) -> None:
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    family = family_for("llama")
    config = family.config_from({"model_type": "llama", "vocab_size": 11, **sizes})
    save_model(init_weights(family.build(config), seed=0), folder)


def training(folder: Path) -> None:
    module = torch.nn.Linear(64, 64)
    checkpoint.save(folder, 1, {}, module, [torch.optim.SGD(module.parameters())])


def in_one_piece(folder: Path) -> None:
    with whole_file(folder / "model.bin") as file:
        file.write(b"x" * 4096)


@pytest.mark.parametrize(
    "save",
    [
        exits,
        training,
        in_one_piece,
        model,
        lambda folder: write_whole(folder / "note", "x" * 4096),
    ],
    ids=["exits", "training", "file", "model", "note"],
)
def test_a_full_disk_is_said_and_nothing_stays(
    tmp_path: Path, save: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OSError) as caught, full_disk():
        save(tmp_path)
    assert caught.value.errno == errno.EFBIG
    assert list(tmp_path.rglob("*")) == []
    assert report(caught.value) == 1
    said = capsys.readouterr().err
    assert "File too large" in said and "bug" not in said
    save(tmp_path)
    assert any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    "said", ["I/O error: no room (os error 28)", 'IoError(Os { code: 28, kind: "full" })']
)
def test_the_number_that_the_library_left_to_its_text(
    tmp_path: Path, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SafetensorError(said)

    monkeypatch.setattr("offramp.models.tensors.save_file", fail)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_tensors({"a": torch.zeros(1)}, tmp_path / "a")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "a"))


def test_what_is_no_error_of_the_system_s_stays_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SafetensorError("invalid shape")

    monkeypatch.setattr("offramp.models.tensors.save_file", fail)
    with pytest.raises(SafetensorError, match="invalid shape"):
        write_tensors({"a": torch.zeros(1)}, tmp_path / "a")


@pytest.mark.parametrize("save", [exits, model, training])
def test_weights_may_be_read_by_whom_the_umask_lets(save: Callable[[Path], None], tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save(tmp_path)
    finally:
        os.umask(before)
    weights = list(tmp_path.rglob("*.safetensors"))
    assert weights and all(file.stat().st_mode & 0o777 == 0o640 for file in weights)
