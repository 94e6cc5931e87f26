"""Buckets and fields: what is fixed in a graph, and what is told anew."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from offramp.graphs.grid import FEWEST, Room, arrange, power, read
from offramp.mixers.base import Mark

COUNTS = st.lists(st.integers(1, 16), min_size=1, max_size=9)


@given(COUNTS, st.randoms(use_true_random=False))
def test_padding_repeats_what_is_there(n: list[int], rng: object) -> None:
    rows = [3 * i + 1 for i in range(len(n))]
    marks = [[Mark(7 * i, 11 * i, i, i + 40) for i in range(len(n))]]
    bucket, fields = arrange(rows, n, marks, Room(40, 4096))
    packed_M, [grid] = read(torch.tensor(fields), bucket)
    assert (bucket.rows, bucket.tokens) == (power(len(n)), power(max(n)))
    for r in range(bucket.rows):
        i = min(r, len(n) - 1)
        assert (grid.slot_R[r], grid.source_R[r], grid.target_R[r]) == (rows[i], i, i + 40)
        for t in range(bucket.tokens):
            step = min(t, n[i] - 1)
            assert packed_M[r * bucket.tokens + t] == sum(n[:i]) + step
            assert (grid.place_RT[r, t], grid.position_RT[r, t]) == (7 * i + step, 11 * i + step)
            assert grid.live_RT[r, t] == (t < n[i])


@pytest.mark.parametrize(("rows", "slots"), [([0], 1), ([0, 1, 2], 4), ([1], 24), ([0, 7], 24), ([0, 1], 2)])
def test_attention_reads_few_slots_or_all(rows: list[int], slots: int) -> None:
    marks = [[Mark(0, 0)] * len(rows)]
    assert arrange(rows, [1] * len(rows), marks, Room(24, 512))[0].slots == slots
    assert arrange(rows, [1] * len(rows), marks, Room(24, 0))[0][2:4] == (0, 0)


@pytest.mark.parametrize(
    ("place", "count", "entries"),
    [(0, 1, FEWEST), (FEWEST - 1, 1, FEWEST), (FEWEST - 1, 2, 2 * FEWEST), (600, 16, 640)],
)
def test_attention_reads_up_to_the_newest_entry(place: int, count: int, entries: int) -> None:
    assert arrange([0], [count], [[Mark(place, place)]], Room(1, 640))[0].entries == entries


def test_parts_that_stand_alike_share_a_grid() -> None:
    here, there = [Mark(1, 2)], [Mark(3, 4)]
    bucket, fields = arrange([0], [1], [here, there, here], Room(1, 0))
    assert bucket.groups == (0, 1, 0)
    _, grids = read(torch.tensor(fields), bucket)
    assert grids[0] is grids[2] and grids[0] is not grids[1]
