"""Put a trained twin with its exits into the package: `python -m offramp.zoo.pack FOLDER TWIN`.

Weights and exits are stored in bfloat16; FOLDER/exits holds the sets that `offramp train` wrote.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch

from offramp.engine.load import exits_of
from offramp.exits.store import load_exits, save_exits
from offramp.files import write_whole
from offramp.models.checkpoint import load_model, save_model
from offramp.zoo.bundled import HOME

DEFAULT = "mamba"
OTHER_FILES = ("tokenizer.json", "tokenizer_config.json", "heldout.json")


def pack(source: Path, twin: str, home: Path = HOME) -> Path:
    """Write home/twin anew from the checkpoint `source` and return it. Raises what loading either part raises."""
    target = home / twin
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    model = load_model(source)
    save_model(model, target, torch.bfloat16)
    for name in OTHER_FILES:
        shutil.copyfile(source / name, target / name)
    for name in exits_of(source):
        exits, info = load_exits(source / "exits" / name, model)
        save_exits(exits.bfloat16(), info, target / "exits" / name)
    write_whole(target / "exits" / "DEFAULT", DEFAULT + "\n")
    return target


if __name__ == "__main__":
    sys.stdout.write(f"{pack(Path(sys.argv[1]), sys.argv[2])}\n")
