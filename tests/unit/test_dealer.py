"""The dealer: a stripe never has two extents on one disk, and a disk with more room gets more extents."""

import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtlfs.engine.layout.dealer import Candidate, Dealer


@dataclass
class Stripe:
    """The disks of a stripe."""

    data: list[int] = field(default_factory=list)
    parity: list[int] = field(default_factory=list)

    @property
    def disks(self) -> list[int]:
        return self.data + self.parity


def equal(count: int) -> list[Candidate]:
    return [Candidate(number, number, 1000) for number in range(count)]


def dealt(dealer: Dealer, extents: int, candidates: Callable[[], Sequence[Candidate]]) -> list[Stripe]:
    """Deal so many extents; `candidates` is called before each step."""
    stripes: list[Stripe] = []
    for _ in range(extents):
        now = candidates()
        if not stripes or dealer.is_full(now):
            if stripes:
                stripes[-1].parity = dealer.close(now)
            stripes.append(Stripe())
            dealer.begin(now)
        stripes[-1].data.append(dealer.deal(now))
    stripes[-1].parity = dealer.close(candidates())
    return stripes


@settings(max_examples=200, deadline=None)
@given(disks=st.integers(2, 8), parity=st.integers(0, 2), turn=st.integers(0, 1000), extents=st.integers(1, 60))
def test_stripes_are_as_wide_as_there_are_disks(disks: int, parity: int, turn: int, extents: int) -> None:
    stripes = dealt(Dealer(parity, turn), extents, lambda: equal(disks))
    wanted = min(parity, disks - 1)
    for stripe in stripes:
        assert len(set(stripe.disks)) == len(stripe.disks)
        assert len(stripe.parity) == wanted
    assert all(len(stripe.data) == (disks - wanted if parity else 1) for stripe in stripes[:-1])
    data = [disk for stripe in stripes for disk in stripe.data]
    assert all(after == (before + 1) % disks for before, after in itertools.pairwise(data))


@settings(max_examples=200, deadline=None)
@given(disks=st.integers(2, 8), parity=st.integers(0, 2), turn=st.integers(0, 1000), seed=st.integers(0, 1 << 32))
def test_disks_that_come_and_go_never_have_two_extents_of_a_stripe(
    disks: int, parity: int, turn: int, seed: int
) -> None:
    chance = random.Random(seed)

    def some() -> Sequence[Candidate]:
        able = chance.sample(range(disks), chance.randint(2, disks))
        return [Candidate(number, number, chance.randint(0, 1000)) for number in able]

    for stripe in dealt(Dealer(parity, turn), 60, some):
        assert len(set(stripe.disks)) == len(stripe.disks) >= 1 + min(parity, 1)


@pytest.mark.parametrize("parity", [0, 1, 2])
def test_streams_begin_on_different_disks(parity: int) -> None:
    first = [dealt(Dealer(parity, turn), 1, lambda: equal(4))[0].data[0] for turn in range(8)]
    assert first == [0, 1, 2, 3] * 2


@pytest.mark.parametrize(("disks", "parity", "extents"), [(4, 1, 1), (4, 1, 2), (4, 2, 1), (8, 2, 3)])
def test_all_disks_have_the_same_share_of_the_parity_of_short_streams(disks: int, parity: int, extents: int) -> None:
    used: Counter[int] = Counter()
    for turn in range(10 * disks):
        for stripe in dealt(Dealer(parity, turn), extents, lambda: equal(disks)):
            used.update(stripe.parity)
    assert set(used.values()) == {10 * parity}


@pytest.mark.parametrize("parity", [0, 1])
@pytest.mark.parametrize("stripes", [1, 300])
def test_an_empty_disk_beside_full_ones_is_used_in_proportion(parity: int, stripes: int) -> None:
    free = {0: 100, 1: 100, 2: 1000, 3: 1000}
    used: Counter[int] = Counter()
    for turn in range(300 // stripes):
        for stripe in dealt(Dealer(parity, turn), stripes, lambda: [Candidate(n, n, free[n]) for n in free]):
            used.update(stripe.disks)
    for full in (0, 1):
        for empty in (2, 3):
            assert 0.05 <= used[full] / used[empty] <= 0.2


@pytest.mark.parametrize("turn", range(8))
def test_a_stream_of_two_extents_lies_on_two_disks(turn: int) -> None:
    disks = [Candidate(0, 0, 10), Candidate(1, 1, 1000)]
    stripes = dealt(Dealer(0, turn), 2, lambda: disks)
    assert sorted(disk for stripe in stripes for disk in stripe.data) == [0, 1]


@pytest.mark.parametrize("parity", [0, 1])
def test_disks_without_any_room_are_dealt_too(parity: int) -> None:
    """The write to such a disk returns the error that tells the writer."""
    stripes = dealt(Dealer(parity, 0), 4, lambda: [Candidate(number, number, 0) for number in range(3)])
    assert len({disk for stripe in stripes for disk in stripe.data}) >= 2


def test_a_full_disk_has_no_more_than_parity_demands() -> None:
    used: Counter[int] = Counter()
    for stripe in dealt(Dealer(1, 0), 300, lambda: [Candidate(0, 0, 0), Candidate(1, 1, 900), Candidate(2, 2, 1000)]):
        used.update(stripe.disks)
    assert used[0] <= 1


@pytest.mark.parametrize("parity", [1, 2])
def test_of_the_disks_on_one_device_a_stripe_has_one(parity: int) -> None:
    disks = [Candidate(number, number // 2, 1000) for number in range(6)]
    used: Counter[int] = Counter()
    for stripe in dealt(Dealer(parity, 0), 200, lambda: disks):
        assert len({disk // 2 for disk in stripe.disks}) == len(stripe.disks)
        used.update(stripe.disks)
    assert set(used) == set(range(6))


def test_with_too_few_devices_the_disks_of_one_are_as_good_as_others() -> None:
    [stripe] = dealt(Dealer(1, 0), 2, lambda: [Candidate(number, 0, 1000) for number in range(3)])
    assert sorted(stripe.disks) == [0, 1, 2]


def test_a_disk_in_trouble_gets_parity_only_where_there_is_no_other() -> None:
    dealer, all_of_them = Dealer(1, 0), equal(4)
    dealer.begin(all_of_them)
    assert dealer.deal(all_of_them) == 0
    assert dealer.close(all_of_them[2:]) == [2]
    assert dealer.close([]) == [1]


def test_a_stripe_that_lost_disks_takes_no_more_data() -> None:
    dealer, all_of_them = Dealer(1, 0), equal(4)
    dealer.begin(all_of_them)
    assert dealer.deal(all_of_them) == 0
    assert not dealer.is_full(all_of_them[2:])
    assert dealer.is_full(all_of_them[3:])


@settings(max_examples=200, deadline=None)
@given(
    disks=st.integers(2, 6),
    parity=st.integers(0, 2),
    before=st.integers(0, 20),
    extents=st.integers(1, 20),
    free=st.lists(st.integers(0, 1000), min_size=6, max_size=6),
)
def test_what_will_come_is_known_beforehand(
    disks: int, parity: int, before: int, extents: int, free: list[int]
) -> None:
    candidates = [Candidate(number, number, free[number]) for number in range(disks)]
    dealer = Dealer(parity, 0)
    is_open = False
    used: Counter[int] = Counter()

    def deal() -> None:
        nonlocal is_open
        if not is_open or dealer.is_full(candidates):
            used.update(dealer.close(candidates) if is_open else ())
            dealer.begin(candidates)
            is_open = True
        used[dealer.deal(candidates)] += 1

    for _ in range(before):
        deal()
    foreseen = dealer.upcoming(extents, candidates, is_open=is_open)
    used.clear()
    for _ in range(extents):
        deal()
    used.update(dealer.close(candidates))
    assert foreseen == used
