"""Which exits are meant: what a checkpoint's own files say of it is read within limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from offramp.engine.load import default_exits
from offramp.errors import ExitsError


def test_the_default_is_the_set_that_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "exits" / name).mkdir(parents=True)
        (tmp_path / "exits" / name / "exits.json").write_text("{}")
    assert default_exits(tmp_path) is None
    chosen = tmp_path / "exits" / "DEFAULT"
    chosen.write_text("b\n")
    assert default_exits(tmp_path) == tmp_path / "exits" / "b"
    for text, said in (("../a", "does not name a set"), ("b" * 5000, "larger than")):
        chosen.write_text(text)
        with pytest.raises(ExitsError, match=said) as caught:
            default_exits(tmp_path)
        assert len(str(caught.value)) < 1000
