"""What `import offramp` offers is what it says it offers."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import offramp
from tests.training.tiny import WIDTH, tiny_model


def test_every_public_name_is_there() -> None:
    for name in offramp.__all__:
        assert getattr(offramp, name) is not None


def test_names_are_sorted_and_listed() -> None:
    assert offramp.__all__ == sorted(offramp.__all__)
    assert dir(offramp) == offramp.__all__


def test_every_error_of_the_tree_is_public() -> None:
    from offramp import errors

    tree = {name for name, item in vars(errors).items() if isinstance(item, type)}
    assert tree <= set(offramp.__all__)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = offramp.lod


def test_type_checkers_see_the_same_names_from_the_same_homes() -> None:
    tree = ast.parse(Path(offramp.__file__).read_text(encoding="utf-8"))
    [checked] = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {
        alias.asname or alias.name: home.module
        for home in checked.body
        if isinstance(home, ast.ImportFrom)
        for alias in home.names
    }
    for line in checked.body:
        if isinstance(line, ast.Assign):  # train = train_exits
            name, there = map(ast.unparse, (line.targets[0], line.value))
            imported[name] = f"{imported.pop(there)}:{there}"
    assert imported == offramp._HOMES


def test_exits_are_trained_with_public_names_alone(tmp_path: Path) -> None:
    """What the package's docstring shows."""
    (tmp_path / "text.txt").write_bytes(bytes(range(1, 32)) * 20)
    model = tiny_model()
    config = offramp.ExitConfig(gate="linear", bridge="none", after=(4,), hidden_size=WIDTH, norm_eps=1e-5)
    exits = offramp.build_exits(config, 8)
    documents = offramp.load_documents(tmp_path, lambda text: list(text.encode()))
    recipe = offramp.ExitTrainConfig(steps=2, tokens_per_step=64, window=32)
    outcome, info = offramp.train(model, exits, documents, recipe, tmp_path / "exits")
    assert outcome.finished and info is not None and (tmp_path / "exits" / "exits.json").is_file()
