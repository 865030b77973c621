"""Parity: lost extents are computed from the others, whatever their lengths."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mounting import random_bytes

from vtlfs.engine.layout import erasure, isal
from vtlfs.errors import VtlfsError
from vtlfs.model import MAX_MEMBERS, MAX_PARITY

LENGTHS = st.lists(st.integers(1, 5000), min_size=1, max_size=10)


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, rows=st.integers(1, MAX_PARITY))
def test_whatever_is_lost_comes_back(lengths: list[int], rows: int) -> None:
    data = {place: random_bytes(place, length) for place, length in enumerate(lengths)}
    parity = {row: erasure.parity(row, [data[place] for place in sorted(data)]) for row in range(rows)}
    members = [("data", place) for place in data] + [("parity", row) for row in parity]
    for gone in itertools.combinations(members, rows):
        lost = {place: lengths[place] for kind, place in gone if kind == "data"}
        left = {row: extent for row, extent in parity.items() if ("parity", row) not in gone}
        known = {place: extent for place, extent in data.items() if place not in lost}
        back = erasure.reconstruct(lost, known, left)
        assert {place: bytes(extent) for place, extent in back.items()} == {place: data[place] for place in lost}


def test_parity_of_a_single_extent_is_its_copy() -> None:
    assert [erasure.parity(row, [b"abc"]) for row in range(MAX_PARITY)] == [b"abc", b"abc"]


def test_the_first_row_is_the_exclusive_or() -> None:
    assert erasure.parity(0, [b"\x01\x02\x03", memoryview(b"\x11")]) == b"\x10\x02\x03"


def test_the_second_row_is_that_of_raid_6() -> None:
    assert erasure.parity(1, [b"\x01", b"\x01", b"\x80"]) == bytes([1 ^ 2 ^ 0x3A])  # 0x80 * 4 = 0x200, less 0x11d twice


def test_more_than_the_parity_can_give_is_refused() -> None:
    with pytest.raises(ValueError, match="2 extents are lost, and 1 of parity"):
        erasure.reconstruct({0: 1, 1: 1}, {}, {0: b"a"})


def test_the_most_extents_that_a_stripe_may_have() -> None:
    data = [random_bytes(place, 100) for place in range(MAX_MEMBERS)]
    rows = {row: erasure.parity(row, data) for row in range(2)}
    for a, b in itertools.combinations(range(len(data)), 2):
        known = {place: extent for place, extent in enumerate(data) if place not in (a, b)}
        assert erasure.reconstruct({a: 100, b: 100}, known, rows) == {a: data[a], b: data[b]}


def test_without_the_library_the_error_says_what_to_install() -> None:
    with pytest.raises(VtlfsError, match="apt install libisal2"):
        isal.load(("libnothing.so.0",))


def test_parity_that_is_too_short_gives_nothing_that_is_right_and_harms_nothing() -> None:
    long = bytes(range(256)) * 16384
    assert len(erasure.reconstruct({0: 4096}, {1: long}, {0: bytes(4096)})[0]) == 4096
