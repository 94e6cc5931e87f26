"""A restored row continues bit for bit, in any slot; whole prompt cells can be shared (design 2 and 4.6)."""

from dataclasses import replace
from random import Random

import pytest

from .oracle import same
from .propagation import PROPAGATIONS
from .request import Request
from .row import PROMPT, Row
from .schedule import finish
from .slots import Pool
from .snapshots import resume, reuse_prefix, save
from .tiny import random_model, random_request
from .trial import outcome

# Always ready to leave, so that drafts, tails and rings are there to be saved.
EAGER = {"max_tokens": 10, "stop": None}


def a_row(seed: int, propagation: str) -> Row:
    rng = Random(seed)
    model = random_model(rng)
    return Row(model, replace(random_request(rng, model, propagation), **EAGER))


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_a_restored_row_goes_on(propagation: str) -> None:
    for seed in range(3):
        row = a_row(seed, propagation)
        for _ in range(9):
            if row.ended is None:
                row.visit()
        slot = Pool(2).storage(1)
        saved = save(row)
        expected = finish(row)  # must not change what was saved
        restored = finish(resume(saved, row.model, row.request, slot))
        assert outcome(restored) == outcome(expected) and restored.frontier == expected.frontier
        assert same(restored.export(), expected.export())


def test_a_shared_prefix_is_what_the_row_would_have_computed() -> None:
    for seed in range(3):
        model, rng = random_model(Random(seed)), Random(seed)
        shared, ends = [rng.randrange(1, 22) for _ in range(8)], ([3, 4, 5], [7])
        first, second = (Request([*shared, *end], max_tokens=4) for end in ends)
        donor = Row(model, first)
        while donor.frontier[0] < len(shared):
            donor.visit()
        assert donor.station == PROMPT
        reused, own = finish(reuse_prefix(save(donor), model, second)), finish(Row(model, second))
        assert outcome(reused) == outcome(own) and same(reused.export(), own.export())


def test_a_prefix_that_ends_inside_a_cell_is_refused() -> None:
    model = random_model(Random(0))
    donor = Row(model, Request([1, 2, 3, 4, 5], max_tokens=1))
    donor.visit()
    with pytest.raises(AssertionError):
        reuse_prefix(save(donor), model, Request([1, 2, 3, 4]))
    with pytest.raises(AssertionError):
        reuse_prefix(save(donor), model, Request([1, 2, 3, 4, 5], cell=3))
