"""What `import offramp` offers is what it says it offers."""

from __future__ import annotations

import pytest

import offramp


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
