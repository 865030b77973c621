"""How much data still fits, as `df` shows it, in comparison with the dealer on the same disks."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtlfs.engine.layout.dealer import Candidate, Dealer
from vtlfs.engine.layout.room import room

UNIT = 1000


def disks(*free: int, devices: str = "") -> list[Candidate]:
    """Return disks with so many free bytes, each on a device of its own, or on the devices that the letters name."""
    return [Candidate(number, ord(devices[number]) if devices else number, size) for number, size in enumerate(free)]


@pytest.mark.parametrize(
    ("free", "parity", "expected"),
    [
        ((300, 300), 0, 600),
        ((300, 300), 1, 300),
        ((300, 300, 300), 0, 900),
        ((300, 300, 300), 1, 600),
        ((300, 300, 300), 2, 300),
        ((300, 300, 300, 300), 2, 600),
        ((900, 300), 0, 600),  # of the larger disk, as much as the smaller one has
        ((900, 300, 200), 1, 500),
        ((900, 900, 300), 2, 300),
        ((600, 300, 300), 1, 600),
        ((300,), 0, 0),
        ((300, 0), 0, 0),
        ((300, 300), 2, 0),
        ((0, 0, 0), 1, 0),
        ((), 0, 0),
        ((340,) * 20, 1, 6400),  # 16 of 17
    ],
)
def test_room_for_data(free: tuple[int, ...], parity: int, expected: int) -> None:
    assert room(disks(*free), parity) == expected


@pytest.mark.parametrize(
    ("free", "devices", "parity", "expected"),
    [
        ((300, 300), "aa", 0, 300),
        ((300, 300), "aa", 1, 150),  # mirrored on one device
        ((300, 300, 300), "aaa", 1, 200),
        ((300, 300, 300), "aab", 1, 300),  # a stripe has one extent on each device
        ((300, 300, 300, 300), "aabb", 2, 300),  # too few devices for that: any three of the disks
    ],
)
def test_a_device_counts_once(free: tuple[int, ...], devices: str, parity: int, expected: int) -> None:
    assert room(disks(*free, devices=devices), parity) == expected


@given(st.lists(st.integers(40 * UNIT, 120 * UNIT), min_size=2, max_size=6), st.integers(0, 2), st.data())
def test_the_dealer_places_about_so_much(free: list[int], parity: int, data: st.DataObject) -> None:
    """The test stops when a stripe would lack parity. With parity 0, the dealer can always use the emptiest disk."""
    found = room(disks(*free), parity)
    if len(free) <= parity:
        assert found == 0
        return
    left = dict(enumerate(free))
    dealer, placed = Dealer(parity, data.draw(st.integers(0, 9))), 0

    def able() -> list[Candidate]:
        return [Candidate(number, number, size) for number, size in left.items() if size >= UNIT]

    while len(able()) >= max(2, parity + 1):
        dealer.begin(able())
        stripe: Counter[int] = Counter()
        while not stripe or not dealer.is_full(able()):
            stripe[dealer.deal(able())] += 1
        placed += stripe.total() * UNIT
        stripe.update(dealer.close(able()))
        for number in stripe:
            left[number] -= UNIT
    slack = 8 * UNIT * len(free)
    assert placed >= found - slack
    if parity:
        assert placed <= found + slack
