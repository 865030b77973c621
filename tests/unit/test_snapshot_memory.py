"""The snapshot memory of the disks: runs of numbers, and what is believed of a file."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtlfs.disks import snapshots

numbers = st.sets(st.integers(1, 60))


def listed(runs: snapshots.Runs) -> set[int]:
    return {number for first, last in runs for number in range(first, last + 1)}


@given(numbers, st.integers(61, 70))
def test_all_but_some(some: set[int], following: int) -> None:
    assert listed(snapshots.all_but(sorted(some), following)) == set(range(1, following)) - some


@given(numbers, numbers)
def test_a_union_has_all_and_is_read_back(one: set[int], other: set[int]) -> None:
    found = snapshots.union([(number, number) for number in (*one, *other)])
    assert listed(found) == one | other
    assert all(second[0] > first[1] + 1 for first, second in pairwise(found))
    assert snapshots.read(snapshots.document("L", found), "L") == found
    assert snapshots.read(snapshots.document("L", found), "other") is None


@pytest.mark.parametrize(
    "deleted", [None, 7, [7], [[1]], [[1, 2, 3]], [[2, 1]], [[0, 1]], [[1, 2], [3, 4]], [[5, 6], [1, 2]], [["1", 2]]]
)
def test_what_cannot_be_is_not_believed(deleted: Any) -> None:
    assert snapshots.read({"library": "L", "deleted": deleted}, "L") is None
